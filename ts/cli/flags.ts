/**
 * What can be written on the command line, and for which command.
 */

import { parseArgs } from 'node:util'

export const USAGE = `Usage:
  realm run  --model SOURCE [options] PROMPT   answer once; PROMPT - is read from standard input
  realm chat --model SOURCE [options]          talk, line by line
  realm bench SOURCE [options]                 measure how fast a model runs here
  realm quantize INPUT OUTPUT MIX [options]    write a GGUF file with smaller types

SOURCE is a path, a URL or hf:owner/repo[/file][@revision].

  --max-tokens N     most tokens of an answer (run, chat)
  --temperature T    0 always takes the best token (run, chat, default 0.8)
  --seed S           same seed, same text (run, chat)
  --system TEXT      system message (run, chat)
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
  raw: { type: 'boolean' },
  json: { type: 'boolean' },
  lora: { type: 'string', multiple: true },
  'chat-template': { type: 'string' },
  context: { type: 'string' },
  prompt: { type: 'string' },
  decode: { type: 'string' },
  layout: { type: 'string' },
  threads: { type: 'string' },
  imatrix: { type: 'string' },
  'allow-requantize': { type: 'boolean' },
  backend: { type: 'string' },
  device: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const

type Name = keyof typeof OPTIONS

const LOADING: readonly Name[] = [
  'chat-template',
  'lora',
  'context',
  'layout',
  'threads',
  'backend',
  'device',
]
const ANSWERING: readonly Name[] = ['model', 'max-tokens', 'temperature', 'seed', 'system']

/** The commands, and which options each of them has. */
const COMMANDS = {
  run: [...LOADING, ...ANSWERING, 'raw', 'json'],
  chat: [...LOADING, ...ANSWERING],
  bench: [...LOADING, 'prompt', 'decode', 'json'],
  quantize: ['imatrix', 'allow-requantize', 'threads'],
} as const satisfies Record<string, readonly Name[]>

export type Command = keyof typeof COMMANDS
export type Flags = ReturnType<typeof parseAll>['values']

/** The command line cannot be understood. */
export class UsageError extends Error {
  constructor(message: string) {
    super(`${message}; realm --help says what there is`)
  }
}

function parseAll(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    // Node's own message goes on with advice in further sentences and lines.
    const [first = ''] = (error as Error).message.split(/\. |\n/)
    throw new UsageError(first.replace(/\.$/, ''))
  }
}

/** The command, the words behind it and its options; no command to show the usage or the version. */
export function parse(args: string[]): {
  command: Command | undefined
  words: string[]
  flags: Flags
} {
  const { values: flags, positionals } = parseAll(args)
  const [command, ...words] = positionals
  if (command === 'help') flags.help = true
  if (flags.help || flags.version) return { command: undefined, words, flags }
  const names = Object.keys(COMMANDS).join(', ')
  if (command === undefined) throw new UsageError(`expected a command: ${names}`)
  if (!isCommand(command))
    throw new UsageError(`there is no command "${command}", expected one of: ${names}`)
  const own: readonly string[] = COMMANDS[command]
  const other = Object.keys(flags).find((name) => !own.includes(name))
  if (other !== undefined) throw new UsageError(`${command} has no option --${other}`)
  return { command, words, flags }
}

function isCommand(word: string): word is Command {
  return Object.hasOwn(COMMANDS, word)
}

export function numeric(
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

export function wholeNumber(name: string, text: string, least: number): number {
  const value = numberOf(name, text)
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new UsageError(`--${name}: expected a whole number, at least ${least}, got "${text}"`)
}
