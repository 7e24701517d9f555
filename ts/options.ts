/**
 * Every option of the public API: its type, its default, its check.
 */

import type { BindingGenerateOptions, BindingLoadOptions, BindingModel } from './binding.js'
import { quiet } from './callers.js'
import type { ChatTool } from './chat.js'
import {
  type LoraOption,
  type LoraSource,
  loraField,
  loraSourceField,
  toBindingLora,
} from './lora.js'
import type { LoadProgress, LogEntry } from './reports.js'
import {
  boolean,
  type Field,
  integer,
  number,
  oneOf,
  optional,
  readOptions,
  signalField,
  string,
  strings,
  type Values,
} from './validate.js'

const MAX = Number.MAX_SAFE_INTEGER

/** Options of `Realm.create`. */
export interface RealmOptions {
  /**
   * 'auto' takes a discrete graphics card where there is one, then the CPU; otherwise a name
   * from `Realm.backends()`. Default 'auto'.
   */
  backend?: string
  /** Backends to try in order when `backend` refuses a model; [] for none. Default 'cpu'. */
  fallback?: string | string[]
  /**
   * The device for backend 'webgpu': its number in the `devices` of `Realm.backends()`, or part
   * of its name. One that computes in software is only used when named here. Default: the best.
   */
  device?: string
  /** Threads per model on the CPU; 0 = physical cores within affinity and quota. Default 0. */
  threads?: number
  /**
   * Bytes that the models of this realm may take together, each counted in full: all that
   * `memory.total` of `model.info` sums up. `Realm.estimate` says it beforehand. A load that needs more rejects with OUT_OF_MEMORY; layout 'auto' makes copies only where they
   * fit. Default: no limit.
   */
  memoryLimit?: number
  /**
   * Called with what was decided, such as the backend of a model and why, and with warnings and
   * errors that belong to no call. Those of the engine are the whole process's: every realm in it
   * that has a logger hears them all; in browsers those of its own models. Until the realm is
   * disposed of; it does not keep the process alive. What it throws is ignored, and changes nothing
   * for whoever called. Default: nothing.
   */
  logger?: (entry: LogEntry) => void
  /** Folder of downloaded models. Default: REALM_CACHE, or `realm` in the user's cache folder. */
  cacheDirectory?: string
  /** Model hub that `hf:` names lead to. Default: HF_ENDPOINT in Node, else https://huggingface.co. */
  hubEndpoint?: string
  /** Sent to the hub, and to nobody else, for models that are not public. Default: HF_TOKEN in Node. */
  hubToken?: string
}

/** Options of `realm.load`. */
export interface LoadOptions {
  /** Positions per sequence; 0 = what the file says, at most 4096. Default 0. */
  contextLength?: number
  /**
   * Sequences that can be at full length at once; 0 = the engine's choice. More can run at once as
   * long as they are shorter, but of a model with recurrent states. Default 0.
   */
  maxSequences?: number
  /**
   * Storage of keys and values; 'auto' is 'f32' for small models, 'f16' for others. 'q8_0' has
   * 8 bits and a scale for each 32 values of a head: about half of 'f16', on the CPU only.
   * Default 'auto'.
   */
  kvCacheType?: 'auto' | 'f32' | 'f16' | 'q8_0'
  /**
   * How matrices are kept. 'mapped': as the file has them, in memory that all processes
   * share. 'packed': a copy, made in the background, that answers faster. 'auto' packs
   * where twice the copy is free. Answers are the same. Default 'auto'.
   */
  layout?: 'auto' | 'mapped' | 'packed'
  /**
   * The chat template instead of the file's: the name of a built-in one, such as 'chatml', or
   * Jinja. Default: the file's, else the built-in one that fits its vocabulary. An empty text is
   * no template, here as in the file.
   */
  chatTemplate?: string
  /** Prepares no weights: tokenize, detokenize, templates and tensor work. Default false. */
  vocabOnly?: boolean
  /** LoRA adapters that everything runs with, until `model.setLora` says otherwise. Default none. */
  lora?: LoraSource | readonly LoraSource[]
  /**
   * Called on the JS thread while the model is fetched and loaded. If it throws, the load is
   * stopped: it rejects with ABORTED and what was thrown as its `cause`. Default: nothing.
   */
  onProgress?: (progress: LoadProgress) => void
  /** Stops the load: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options of `Realm.estimate`: those of `realm.load`, and those of `Realm.create` but for a limit. */
export interface EstimateOptions extends LoadOptions, Omit<RealmOptions, 'memoryLimit'> {}

/** Options of `quantize`. */
export interface QuantizeOptions {
  /** Path of a file that says how much each column matters (GGUF or the older .dat). Default none. */
  imatrix?: string
  /** Threads; 0 = as many as the machine has. Default 0. */
  threads?: number
  /** Quantises tensors again that are quantised already, at a loss. Default false. */
  allowRequantize?: boolean
  /**
   * Called on the JS thread with the share that is done, from 0 to 1. If it throws, the work is
   * stopped: it rejects with ABORTED and what was thrown as its `cause`. Default: nothing.
   */
  onProgress?: (fraction: number) => void
  /** Stops the work: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options that shape an answer. */
export interface GenerateOptions {
  /** Most tokens of the answer. Default: until the model ends it or the context is full. */
  maxTokens?: number
  /** Divides the logits; 0 always takes the best token. Default 0.8. */
  temperature?: number
  /** Draws among the k best tokens; 0 = all. Default 40. */
  topK?: number
  /** Draws among the best tokens whose probabilities sum up to this; 1 = all. Default 0.95. */
  topP?: number
  /** Drops tokens less probable than this share of the best one; 0 = none. Default 0.05. */
  minP?: number
  /** Divides the positive logits of recent tokens, multiplies the negative ones; 1 = off. Default 1. */
  repeatPenalty?: number
  /** How many of the last tokens `repeatPenalty` looks at. Default 64. */
  repeatLastN?: number
  /** Same seed, same text. Default: a random one, which the result names. */
  seed?: number
  /** Text that ends the answer and is not part of it; at most 64 KiB in all. Default none. */
  stop?: string | string[]
  /** The answer does not end by itself before it has this many tokens. Default 0. */
  minTokens?: number
  /** Goes on past the model's end-of-generation tokens. Default false. */
  ignoreEos?: boolean
  /** Puts the prompt's text in front of the answer. Default false. */
  echo?: boolean
  /** LoRA adapters for this answer; [] for none. Default: the model's own list. */
  lora?: LoraOption
  /** Ends the generation within one step; its result says 'abort'. */
  signal?: AbortSignal
}

/** Options of `model.generate`. */
export interface CompletionOptions extends GenerateOptions {
  /** Adds the tokens that the model starts a text with, when the prompt is a string. Default true. */
  addSpecial?: boolean
  /** Reads names of special tokens in a string prompt as those tokens. Default true. */
  parseSpecial?: boolean
}

/** Options of `model.loadAdapter`. */
export interface AdapterOptions {
  /**
   * Called on the JS thread while the adapter is downloaded. If it throws, the load is stopped: it
   * rejects with ABORTED and what was thrown as its `cause`. Default: nothing.
   */
  onProgress?: (progress: LoadProgress) => void
  /** Stops the download: the load rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options of `model.tokenize`. */
export interface TokenizeOptions {
  /** Adds the tokens that the model starts or ends a text with. Default false. */
  addSpecial?: boolean
  /** Reads names of special tokens, such as `<|im_end|>`, as those tokens. Default false. */
  parseSpecial?: boolean
}

/** Options of `model.detokenize`. */
export interface DetokenizeOptions {
  /** Writes special tokens as their names instead of leaving them out. Default false. */
  special?: boolean
}

/** Options of `model.embed`. */
export interface EmbedOptions {
  /**
   * How the vectors of a text's tokens become one: their mean, that of the first token ('cls')
   * or of the last, or not at all. Default: what the file says (see `info.pooling`).
   */
  pooling?: 'mean' | 'cls' | 'last' | 'none'
  /** Scales every vector to length 1, so that a dot product is the cosine. Default true. */
  normalize?: boolean
  /** Ends the work within one step: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options of `model.forwardLayer`. */
export interface LayerOptions {
  /** Position of the first row. Default 0. */
  position?: number
  /** Which sequence's keys and values to use; any number of one's own choice. Default 0. */
  sequence?: number
  /** Ends the work within one step: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options of `model.embedTokens`. */
export interface EmbedTokensOptions {
  /**
   * Position of the first token, as `forwardLayer` is told. It counts for models with learned
   * positions, such as GPT-2, alone. Default 0.
   */
  position?: number
  /** Ends the work within one step: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Options of `model.rerank` and `model.computeLogits`. */
export interface RequestOptions {
  /** Ends the work within one step: it rejects with ABORTED. */
  signal?: AbortSignal
}

/** Names of the API that are reserved and refused until they do something. */
const LATER_GENERATE = [
  'typicalP',
  'frequencyPenalty',
  'presencePenalty',
  'dry',
  'xtc',
  'mirostat',
  'logitBias',
  'grammar',
  'jsonSchema',
  'logprobs',
  'tenant',
  'priority',
]

function callback<T extends (...args: never[]) => void>(): Field<T | undefined> {
  return optional('a function', (value): value is T => typeof value === 'function')
}

const LOGGER: Field<((entry: LogEntry) => void) | undefined> = {
  expected: 'a function',
  fallback: undefined,
  parse: (value) =>
    typeof value === 'function' ? quiet(value as (entry: LogEntry) => void) : undefined,
}

const REALM = {
  backend: string("'auto' or the name of a backend", 'auto'),
  fallback: strings(['cpu']),
  device: string('the number of a device or part of its name', undefined),
  threads: integer(0, 256, 0),
  memoryLimit: integer(1, MAX, Number.POSITIVE_INFINITY),
  logger: LOGGER,
  cacheDirectory: string('a folder', undefined),
  hubEndpoint: string('an http(s) address', undefined),
  hubToken: string('a token', undefined),
}

const LOAD = {
  contextLength: integer(0, MAX, 0),
  maxSequences: integer(0, MAX, 0),
  kvCacheType: oneOf(['auto', 'f32', 'f16', 'q8_0'], 'auto'),
  layout: oneOf(['auto', 'mapped', 'packed'], 'auto'),
  chatTemplate: string('the name of a built-in template, or Jinja', undefined),
  vocabOnly: boolean(false),
  lora: loraSourceField,
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: signalField,
}

const { memoryLimit: _limit, ...REALM_WITHOUT_LIMIT } = REALM
const ESTIMATE = { ...REALM_WITHOUT_LIMIT, ...LOAD }

const { onProgress: _told, signal: _stopped, ...LOAD_AND_WAIT } = LOAD
const { backend, fallback, device, threads } = REALM
const STORE = { ...LOAD_AND_WAIT, backend, fallback, device, threads }

const ADAPTER = { onProgress: LOAD.onProgress, signal: signalField }

const QUANTIZE = {
  imatrix: string('a path', undefined),
  threads: integer(0, 256, 0),
  allowRequantize: boolean(false),
  onProgress: callback<(fraction: number) => void>(),
  signal: signalField,
}

/** The range of numbers above 0 that samplers, which compute with 32 bits, tell from 0 and infinity. */
const FLOAT32_MIN = 2 ** -126
const FLOAT32_MAX = (2 - 2 ** -23) * 2 ** 127

const GENERATE = {
  maxTokens: integer(1, MAX, undefined),
  temperature: number(0, FLOAT32_MAX, 0.8),
  topK: integer(0, MAX, 40),
  topP: number(0, 1, 0.95),
  minP: number(0, 1, 0.05),
  repeatPenalty: number(FLOAT32_MIN, FLOAT32_MAX, 1),
  repeatLastN: integer(0, MAX, 64),
  seed: integer(0, MAX, null),
  stop: strings([]),
  minTokens: integer(0, MAX, 0),
  ignoreEos: boolean(false),
  echo: boolean(false),
  lora: loraField,
  signal: signalField,
}

const COMPLETION = { ...GENERATE, addSpecial: boolean(true), parseSpecial: boolean(true) }
const TOKENIZE = { addSpecial: boolean(false), parseSpecial: boolean(false) }
const DETOKENIZE = { special: boolean(false) }
const EMBED = {
  pooling: { ...oneOf(['mean', 'cls', 'last', 'none'], 'mean'), fallback: null },
  normalize: boolean(true),
  signal: signalField,
}
const LAYER = { position: integer(0, MAX, 0), sequence: integer(0, MAX, 0), signal: signalField }
const EMBED_TOKENS = { position: integer(0, MAX, 0), signal: signalField }
const REQUEST = { signal: signalField }

const JSON_OBJECT = optional(
  'an object',
  (value): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value),
)
const TOOLS = optional('an array of tools', (value): value is readonly ChatTool[] =>
  Array.isArray(value),
)
const DOCUMENTS = optional('an array of documents', (value): value is readonly object[] =>
  Array.isArray(value),
)
const PROMPT = {
  tools: TOOLS,
  documents: DOCUMENTS,
  variables: JSON_OBJECT,
  template: string('the name of a built-in template, or Jinja', undefined),
}
const TEMPLATE = {
  ...PROMPT,
  addGenerationPrompt: optional(
    'a boolean',
    (value): value is boolean => typeof value === 'boolean',
  ),
  continueFinalMessage: boolean(false),
}
const CHAT = { ...GENERATE, ...PROMPT }
/** A signal is for one answer, so a session has none. */
const { signal: _, ...ANSWERS } = CHAT
const SESSION = { ...ANSWERS, system: string('the text of the system message', undefined) }

export const readRealmOptions = (given: unknown): Values<typeof REALM> =>
  readOptions('options', given, REALM)
export const readLoadOptions = (given: unknown): Values<typeof LOAD> =>
  readOptions('load options', given, LOAD)
export const readEstimateOptions = (given: unknown): Values<typeof ESTIMATE> =>
  readOptions('estimate options', given, ESTIMATE)
export const readStoreOptions = (given: unknown): Values<typeof STORE> =>
  readOptions('options', given, STORE)
export const readAdapterOptions = (given: unknown): Values<typeof ADAPTER> =>
  readOptions('adapter options', given, ADAPTER)
export const readQuantizeOptions = (given: unknown): Values<typeof QUANTIZE> =>
  readOptions('quantize options', given, QUANTIZE)
export const readCompletionOptions = (given: unknown): Values<typeof COMPLETION> =>
  readOptions('generate options', given, COMPLETION, LATER_GENERATE)
export const readTokenizeOptions = (given: unknown): Values<typeof TOKENIZE> =>
  readOptions('tokenize options', given, TOKENIZE)
export const readDetokenizeOptions = (given: unknown): Values<typeof DETOKENIZE> =>
  readOptions('detokenize options', given, DETOKENIZE)
export const readEmbedOptions = (given: unknown): Values<typeof EMBED> =>
  readOptions('embed options', given, EMBED)
export const readLayerOptions = (given: unknown): Values<typeof LAYER> =>
  readOptions('forwardLayer options', given, LAYER)
export const readEmbedTokensOptions = (given: unknown): Values<typeof EMBED_TOKENS> =>
  readOptions('embedTokens options', given, EMBED_TOKENS)
export const readRequestOptions = (what: string, given: unknown): Values<typeof REQUEST> =>
  readOptions(`${what} options`, given, REQUEST)
export const readTemplateOptions = (given: unknown): Values<typeof TEMPLATE> =>
  readOptions('template options', given, TEMPLATE)
export const readChatOptions = (given: unknown): Values<typeof CHAT> =>
  readOptions('chat options', given, CHAT, LATER_GENERATE)
export const readSessionOptions = (given: unknown): Values<typeof SESSION> =>
  readOptions('session options', given, SESSION, LATER_GENERATE)

/** What the engine takes to load a model into what is left of the realm's memory limit. */
export function toBindingLoad(
  realm: Pick<Values<typeof REALM>, 'backend' | 'fallback' | 'device' | 'threads'>,
  load: Values<typeof LOAD_AND_WAIT>,
  memoryLimit: number,
): BindingLoadOptions {
  return {
    backend: realm.backend,
    fallback: realm.fallback,
    device: realm.device ?? '',
    threads: realm.threads,
    contextLength: load.contextLength,
    maxSequences: load.maxSequences,
    kvCacheType: load.kvCacheType,
    layout: load.layout,
    memoryLimit,
    vocabOnly: load.vocabOnly,
    chatTemplate: load.chatTemplate ?? null,
  }
}

/** What the engine takes to generate; a chat's prompt brings its special tokens along. */
export function toBindingGenerate(
  options: Omit<Values<typeof GENERATE>, 'signal'>,
  tokens: { addSpecial: boolean; parseSpecial: boolean },
  contextLength: number,
  sequence: number | null,
  binding: BindingModel,
): BindingGenerateOptions {
  return {
    maxTokens: options.maxTokens ?? contextLength,
    temperature: options.temperature,
    topK: options.topK,
    topP: options.topP,
    minP: options.minP,
    repeatPenalty: options.repeatPenalty,
    repeatLastN: options.repeatLastN,
    seed: options.seed,
    stop: options.stop,
    minTokens: options.minTokens,
    ignoreEos: options.ignoreEos,
    echo: options.echo,
    addSpecial: tokens.addSpecial,
    parseSpecial: tokens.parseSpecial,
    sequence,
    lora: toBindingLora(options.lora, binding),
  }
}
