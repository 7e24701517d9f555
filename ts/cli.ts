/**
 * The `realm` command.
 */

import { constants } from 'node:os'
import { type BenchRates, bench, benchContextLength } from './bench.js'
import { chat } from './cli/chat.js'
import { type Flags, numeric, parse, USAGE, UsageError, wholeNumber } from './cli/flags.js'
import { note, OutputError, percentage, print } from './cli/output.js'
import { guarded, RealmError } from './errors.js'
import type { GenerateResult, Generation } from './generation.js'
import { loadBinding, version } from './load-binding.js'
import type { Model, ModelInfo } from './model.js'
import type { GenerateOptions, LoadOptions } from './options.js'
import { quantize } from './quantize.js'
import { Realm } from './realm.js'

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
    if (error instanceof OutputError && error.isUnread) return OK
    const isExpected = [RealmError, UsageError, OutputError].some((type) => error instanceof type)
    if (!isExpected) throw error
    const label = error instanceof RealmError ? `${error.code}: ` : ''
    note(`realm: ${label}${(error as Error).message}`)
    return error instanceof UsageError ? WRONG_USAGE : FAILED
  }
}

async function dispatch(args: string[]): Promise<number> {
  const { command, words, flags } = parse(args)
  if (command === undefined) return printed(flags.version ? `${version}\n` : USAGE)
  if (command === 'quantize') return quantizeFile(words, flags)
  if (command === 'bench') return benchModel(words, flags)
  if (command === 'chat' && words.length > 0)
    throw new UsageError(`chat: expected no prompt, got "${words.join(' ')}"`)
  const prompt = await promptOf(words)
  if (command === 'run' && prompt === '') throw new UsageError('run: expected a prompt')
  if (flags.model === undefined) throw new UsageError(`${command}: expected --model SOURCE`)
  if (flags.raw && flags.system !== undefined)
    throw new UsageError('--system needs a chat, --raw has none')
  const options = generateOptions(flags)
  const model = await loadModel(flags.model, flags, numeric(flags, 'context'))
  try {
    if (command === 'run') return await run(model, prompt, flags, options)
    await chat(model, flags.system, options)
    return OK
  } finally {
    await model.dispose()
  }
}

/** What stands on the command line, or on standard input. */
async function promptOf(words: string[]): Promise<string> {
  if (words.length !== 1 || words[0] !== '-') return words.join(' ')
  const pieces: Buffer[] = []
  for await (const piece of process.stdin) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

async function quantizeFile(words: string[], flags: Flags): Promise<number> {
  const [input, output, mix, ...rest] = words
  if (input === undefined || output === undefined || mix === undefined || rest.length > 0)
    throw new UsageError('expected: realm quantize INPUT OUTPUT MIX')
  // Ctrl-C and its like end the work through its signal, so that nothing is left; twice, the process.
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(name, () => interrupt.abort(name))
  const report = await quantize(input, output, mix, {
    imatrix: flags.imatrix,
    threads: numeric(flags, 'threads'),
    allowRequantize: flags['allow-requantize'],
    onProgress: percentage('quantising'),
    signal: interrupt.signal,
  }).catch((error) => {
    if (interrupt.signal.aborted) return null
    throw error
  })
  if (report === null) return 128 + constants.signals[interrupt.signal.reason as NodeJS.Signals]
  const changed = report.tensors.filter(({ from, to }) => from !== to).length
  const [before, after] = [report.inputBytes, report.outputBytes].map((n) => (n / 1e6).toFixed(1))
  return printed(
    `${changed} of ${report.tensors.length} tensors quantised, ${before} MB -> ${after} MB\n`,
  )
}

async function benchModel(words: string[], flags: Flags): Promise<number> {
  const [source, ...rest] = words
  if (source === undefined || rest.length > 0) throw new UsageError('bench: expected one model')
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
    return printed(
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

async function run(
  model: Model,
  prompt: string,
  flags: Flags,
  options: GenerateOptions,
): Promise<number> {
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  const generation = flags.raw
    ? model.generate(prompt, options)
    : model.chat([...system, { role: 'user', content: prompt }], options)
  return interruptible(generation, async () => {
    if (!flags.json) await stream(generation)
    const result = await generation
    await print(flags.json ? `${JSON.stringify(toJson(result))}\n` : '\n')
    if (!flags.json) note(timings(result))
    return result.finishReason === 'abort' ? INTERRUPTED : OK
  })
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
  for await (const { text } of generation) await print(text)
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

async function printed(text: string): Promise<number> {
  await print(text)
  return OK
}
