/**
 * The `realm` command.
 */

import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { type BenchRates, bench, benchContextLength } from './bench.js'
import { guarded, RealmError } from './errors.js'
import type { GenerateResult, Generation } from './generation.js'
import { loadBinding, version } from './load-binding.js'
import type { Model, ModelInfo } from './model.js'
import type { GenerateOptions, LoadOptions } from './options.js'
import { quantize } from './quantize.js'
import { Realm } from './realm.js'

const USAGE = `Usage:
  realm run  --model SOURCE [options] PROMPT   answer once
  realm chat --model SOURCE [options]          talk, line by line
  realm bench SOURCE [options]                 measure how fast a model runs here
  realm quantize INPUT OUTPUT MIX [options]    write a GGUF file with smaller types

SOURCE is a path, a URL or hf:owner/repo[/file][@revision].

  --max-tokens N     most tokens of an answer
  --temperature T    0 always takes the best token (default 0.8)
  --seed S           same seed, same text
  --system TEXT      system message
  --raw              continue the prompt as it is, without the chat template (run)
  --chat-template T  name of a built-in template, or Jinja, instead of the model's own
  --json             print one JSON object instead of text (run, bench)
  --lora FILE[:S]    LoRA adapter, with factor S (default 1); can be given several times
  --context N        positions of the context; of bench: tokens before the prompt, such as 0,4096
                     (default 0,512)
  --prompt N         tokens of the prompt (bench, default 512)
  --decode N         tokens made after it (bench, default 128)
  --layout NAME      'mapped', 'packed' or 'auto' (default)
  --threads N        threads; 0 = physical cores (default)
  --imatrix FILE     importance matrix (quantize)
  --allow-requantize quantise what is quantised already (quantize)
  --backend NAME     'auto' (default) or a backend's name
  --device NAME      device of backend 'webgpu': its number or part of its name
  --help, --version
`

const OPTIONS = {
  model: { type: 'string' },
  'max-tokens': { type: 'string' },
  temperature: { type: 'string' },
  seed: { type: 'string' },
  system: { type: 'string' },
  raw: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  lora: { type: 'string', multiple: true },
  'chat-template': { type: 'string' },
  context: { type: 'string' },
  prompt: { type: 'string' },
  decode: { type: 'string' },
  layout: { type: 'string' },
  threads: { type: 'string' },
  imatrix: { type: 'string' },
  'allow-requantize': { type: 'boolean', default: false },
  backend: { type: 'string' },
  device: { type: 'string' },
  help: { type: 'boolean', default: false },
  version: { type: 'boolean', default: false },
} as const

type Flags = ReturnType<typeof parse>['values']

/** Process exit codes. */
const OK = 0
const FAILED = 1
const WRONG_USAGE = 2
const INTERRUPTED = 130

/**
 * Runs the command.
 *
 * @param args what stands after `realm` on the command line
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  try {
    return await dispatch(args)
  } catch (error) {
    if (!(error instanceof RealmError || error instanceof UsageError)) throw error
    const label = error instanceof RealmError ? `${error.code}: ` : ''
    process.stderr.write(`realm: ${label}${error.message}\n`)
    return error instanceof UsageError ? WRONG_USAGE : FAILED
  }
}

class UsageError extends Error {}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${USAGE}`)
  }
}

async function dispatch(args: string[]): Promise<number> {
  const { values: flags, positionals } = parse(args)
  const [command, ...words] = positionals
  if (flags.version) return print(`${version}\n`)
  if (flags.help) return print(USAGE)
  if (command === 'quantize') return quantizeFile(words, flags)
  if (command === 'bench') return benchModel(words, flags)
  if (command !== 'run' && command !== 'chat')
    throw new UsageError(`expected a command: run, chat, bench or quantize\n\n${USAGE}`)
  const prompt = words.join(' ')
  if (command === 'run' && prompt === '') throw new UsageError(`expected a prompt\n\n${USAGE}`)
  if (flags.model === undefined) throw new UsageError(`expected --model\n\n${USAGE}`)
  const options = generateOptions(flags)
  const model = await loadModel(flags.model, flags, numeric(flags, 'context'))
  try {
    return command === 'run'
      ? await run(model, prompt, flags, options)
      : await chat(model, flags, options)
  } finally {
    await model.dispose()
  }
}

async function quantizeFile(words: string[], flags: Flags): Promise<number> {
  const [input, output, mix, ...rest] = words
  if (input === undefined || output === undefined || mix === undefined || rest.length > 0)
    throw new UsageError(`expected an input, an output and a mix\n\n${USAGE}`)
  const report = await quantize(input, output, mix, {
    imatrix: flags.imatrix,
    threads: numeric(flags, 'threads'),
    allowRequantize: flags['allow-requantize'],
    onProgress: percentage('quantising'),
  })
  const changed = report.tensors.filter(({ from, to }) => from !== to).length
  const [before, after] = [report.inputBytes, report.outputBytes].map((n) => (n / 1e6).toFixed(1))
  return print(
    `${changed} of ${report.tensors.length} tensors quantised, ${before} MB -> ${after} MB\n`,
  )
}

async function benchModel(words: string[], flags: Flags): Promise<number> {
  const [source, ...rest] = words
  if (source === undefined || rest.length > 0)
    throw new UsageError(`expected one model\n\n${USAGE}`)
  const options = {
    promptTokens: wholeNumber('prompt', flags.prompt ?? '512', 1),
    decodeTokens: wholeNumber('decode', flags.decode ?? '128', 1),
    contexts: (flags.context ?? '0,512').split(',').map((text) => wholeNumber('context', text, 0)),
  }
  // Before the model is there, whose weights may be copied in the background.
  const bandwidth = guarded(() => loadBinding().memoryBandwidthSync(numeric(flags, 'threads') ?? 0))
  const model = await loadModel(source, flags, benchContextLength(options))
  try {
    const { info } = model
    const memory = info.backend === 'cpu' ? bandwidth : null
    const rates = await bench(model, options, memory)
    return print(
      flags.json
        ? `${JSON.stringify({ version, info, memoryBytesPerSecond: memory, rates })}\n`
        : benchText(info, memory, rates),
    )
  } finally {
    await model.dispose()
  }
}

function benchText(info: ModelInfo, memory: number | null, rates: BenchRates[]): string {
  const giga = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB/s`
  const kernels = Object.entries(info.kernels).map(([type, kernel]) => `${type} ${kernel}`)
  const lines = rates.map((rate) => {
    const percent = rate.percentOfMemory === null ? '' : `, ${rate.percentOfMemory.toFixed(0)} %`
    return (
      `context ${rate.context}: ` +
      `prompt of ${rate.promptTokens} at ${rate.promptRate.toFixed(1)} tokens/s, ` +
      `${rate.decodeTokens} decoded at ${rate.decodeRate.toFixed(1)} tokens/s ` +
      `(${giga(rate.decodeBytesPerSecond)}${percent})`
    )
  })
  return [
    `${info.name ?? info.architecture}: ${(info.bytesPerToken / 1e6).toFixed(1)} MB per token`,
    `${info.backend}, ${info.threads} threads, ${info.layout}, ${kernels.join(', ')}`,
    ...(memory === null ? [] : [`memory is read at ${giga(memory)}`]),
    ...lines,
    '',
  ].join('\n')
}

/** Shows a percentage on a terminal's error stream. */
function percentage(what: string): (fraction: number) => void {
  let last = -1
  return (fraction) => {
    const percent = Math.floor(fraction * 100)
    if (percent === last || !process.stderr.isTTY) return
    last = percent
    process.stderr.write(`\r${what} ${percent} %${percent === 100 ? '\n' : ''}`)
  }
}

async function loadModel(
  source: string,
  flags: Flags,
  contextLength: number | undefined,
): Promise<Model> {
  const realm = await Realm.create({
    backend: flags.backend,
    device: flags.device,
    threads: numeric(flags, 'threads'),
  })
  const show = percentage('downloading')
  return realm.load(source, {
    contextLength,
    chatTemplate: flags['chat-template'],
    layout: flags.layout as LoadOptions['layout'],
    lora: flags.lora?.map(loraSource),
    onProgress: ({ stage, fraction }) => {
      if (stage === 'download') show(fraction)
    },
  })
}

/** `FILE` or `FILE:SCALE`. */
function loraSource(text: string) {
  const [, path, scale] = /^(.+):([-+.\de]+)$/i.exec(text) ?? []
  if (path === undefined || Number.isNaN(Number(scale))) return { path: text }
  return { path, scale: Number(scale) }
}

function generateOptions(flags: Flags): GenerateOptions {
  return {
    maxTokens: numeric(flags, 'max-tokens'),
    temperature: numeric(flags, 'temperature'),
    seed: numeric(flags, 'seed'),
  }
}

function numeric(
  flags: Flags,
  name: 'max-tokens' | 'temperature' | 'seed' | 'context' | 'threads',
): number | undefined {
  const text = flags[name]
  return text === undefined ? undefined : numberOf(name, text)
}

function numberOf(name: string, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value))
    throw new UsageError(`--${name}: expected a number, got "${text}"`)
  return value
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = numberOf(name, text)
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new UsageError(`--${name}: expected a whole number, at least ${least}, got "${text}"`)
}

async function run(
  model: Model,
  prompt: string,
  flags: Flags,
  options: GenerateOptions,
): Promise<number> {
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  if (flags.raw && system.length > 0) throw new UsageError('--system needs a chat, --raw has none')
  const generation = flags.raw
    ? model.generate(prompt, options)
    : model.chat([...system, { role: 'user', content: prompt }], options)
  return interruptible(generation, async () => {
    if (!flags.json) await stream(generation)
    const result = await generation
    print(flags.json ? `${JSON.stringify(toJson(result))}\n` : `\n${timings(result)}\n`)
    return result.finishReason === 'abort' ? INTERRUPTED : OK
  })
}

async function chat(model: Model, flags: Flags, options: GenerateOptions): Promise<number> {
  const session = model.session({ system: flags.system, ...options })
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
  lines.prompt()
  for await (const line of lines) {
    if (line.trim() !== '') {
      const generation = session.send(line)
      await interruptible(generation, () => stream(generation))
      print('\n')
    }
    lines.prompt()
  }
  await session.dispose()
  return OK
}

/** Ctrl-C ends the answer instead of the process while `work` goes on. */
async function interruptible<T>(generation: Generation, work: () => Promise<T>): Promise<T> {
  const onInterrupt = () => generation.abort()
  process.once('SIGINT', onInterrupt)
  try {
    return await work()
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}

async function stream(generation: Generation): Promise<void> {
  for await (const { text } of generation) print(text)
}

function toJson(result: GenerateResult) {
  const { text, tokens, finishReason, seed, usage, timings } = result
  return { text, tokens: [...tokens], finishReason, seed, usage, timings }
}

function timings({ usage, timings: t }: GenerateResult): string {
  const decode = `${t.decodeTokens} tokens in ${ms(t.decodeMs)} (${rate(t.decodeTokens, t.decodeMs)})`
  return (
    `[load ${ms(t.loadMs)} | prompt ${t.promptTokens} of ${usage.promptTokens} tokens in ` +
    `${ms(t.promptMs)} (${rate(t.promptTokens, t.promptMs)}) | ` +
    `first token after ${ms(t.firstTokenMs)} | decode ${decode}]`
  )
}

function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`
}

function rate(tokens: number, milliseconds: number): string {
  return milliseconds > 0 ? `${((tokens * 1000) / milliseconds).toFixed(1)}/s` : '-'
}

function print(text: string): number {
  process.stdout.write(text)
  return OK
}
