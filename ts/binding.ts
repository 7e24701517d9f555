/**
 * The one interface that the native addon and the WebAssembly package both
 * satisfy. It is flat on purpose: plain values, typed arrays and callbacks, so
 * that both can be checked against it by the compiler. Everything a user
 * sees is built on top of it.
 *
 * Errors thrown or rejected here are `Error` objects with a string `code` (see
 * `RealmErrorCode`).
 */

import type { LoadProgress, LogEntry } from './reports.js'

export interface BindingBackendInfo {
  /** Name to pass as `backend`. */
  name: string
  available: boolean
  /** What was found, such as the instruction set in use; or why it is not available. */
  description: string
  /** Devices that the backend can use, such as processors or graphics cards, by name. */
  devices: string[]
}

export interface BindingLoadOptions {
  backend: string
  /** Backends to try in order when `backend` refuses. */
  fallback: string[]
  /** Number or part of the name of a device for the GPU backends; '' = the best. */
  device: string
  /** Threads per model for the CPU backend; 0 = physical cores within affinity and quota. */
  threads: number
  /** Positions per sequence; 0 = what the file says, at most 4096. */
  contextLength: number
  /** Sequences that can be at full length at once; 0 = default. */
  maxSequences: number
  /** 'auto' | 'f32' | 'f16' | 'q8_0' */
  kvCacheType: string
  /** 'auto' | 'mapped' | 'packed' */
  layout: string
  /** Bytes that the model may take, all of `BindingMemory`; Infinity for no limit. */
  memoryLimit: number
  vocabOnly: boolean
  /** The chat template instead of the file's: the name of a built-in one, or Jinja. */
  chatTemplate: string | null
}

/** Bytes that a model takes when every page, state and copy is in use. */
export interface BindingMemory {
  /**
   * Weights as the backend keeps them. Of a mapped file, those of which there is a packed copy are
   * let go and do not count.
   */
  weights: number
  /** Packed copies of matrices. */
  copies: number
  /** The KV cache, all its pages. */
  kv: number
  /** Recurrent states, one for each of `maxSequences`. */
  states: number
  /** Everything else: activations, scratch memory, batches, lists of pages. */
  slots: number
  total: number
}

/** What a model would take if it were loaded. */
export interface BindingEstimate {
  memory: BindingMemory
  /** The backend that it is for; '' when only the vocabulary would be loaded. */
  backend: string
  layout: 'mapped' | 'packed' | null
  contextLength: number
  maxSequences: number
}

export interface BindingModelInfo {
  architecture: string
  name: string | null
  /** Such as 'Q4_K_M'; null when the file does not say. */
  fileType: string | null
  fileBytes: number
  /** Bytes of weights, by storage type. */
  weightBytes: number
  weightTypes: Record<string, number>
  /** Bytes of weights read to make one token, routed experts only; 0 when only the vocabulary was loaded. */
  bytesPerToken: number
  parameterCount: number
  layerCount: number
  /** Values per token between two blocks: the hidden state, and what else the model carries there. */
  hiddenSize: number
  /** Values of the hidden state alone, and of an embedding. */
  embeddingSize: number
  headCount: number
  kvHeadCount: number
  feedForwardSize: number
  vocabularySize: number
  /** Context the model was trained with. */
  trainedContextLength: number
  /** Context this instance was loaded with. */
  contextLength: number
  maxSequences: number
  kvCacheType: string
  kvPageTokens: number
  /** Bytes the whole KV cache can take; pages are touched as they are used. */
  kvCacheBytes: number
  /**
   * How matrices are kept: as the file has them, or copied in the order in which the
   * engine reads them; null when only the vocabulary was loaded.
   */
  layout: 'mapped' | 'packed' | null
  /** Bytes of those copies once all are made; those of the file need not stay in memory then. */
  packedBytes: number
  /** What it takes of memory; all 0 when only the vocabulary was loaded. */
  memory: BindingMemory
  /** How `embed` pools unless asked otherwise; null when only the vocabulary was loaded. */
  pooling: 'none' | 'mean' | 'cls' | 'last' | 'rank' | null
  tokenizer: string
  bosToken: number | null
  eosToken: number | null
  /** Ids that end an answer. */
  endOfGenerationTokens: number[]
  /** The file's own template; null where it has none, or an empty text. */
  chatTemplate: string | null
  /**
   * Where the template in use comes from: 'option' (given when loading), 'file', or the name of
   * the built-in one that fits the vocabulary, such as 'chatml'; null where there is none.
   */
  chatTemplateOrigin: string | null
  backend: string
  /** Why this backend, naming every refusal before it. */
  backendReason: string
  /** The processor or graphics card it runs on; null when only the vocabulary was loaded. */
  device: string | null
  /** Threads it computes with; 0 on a GPU. */
  threads: number
  /** Kernel in use per weight type, such as { Q4_K: 'avx512vnni' }. */
  kernels: Record<string, string>
  loadMs: number
}

/** What the file of a LoRA adapter says about itself. */
export interface BindingAdapterInfo {
  name: string | null
  /** The largest rank of its pairs of matrices. */
  rank: number
  /** Its factor times the rank; 0 stands for a factor of 1. */
  alpha: number
  /** Tensors of the model that it adds to. */
  tensorCount: number
  /** Bytes of its matrices. */
  bytes: number
}

export interface BindingAdapter {
  id: number
  info: BindingAdapterInfo
}

/** An adapter and how strongly it counts. */
export interface BindingLora {
  adapter: number
  scale: number
}

/** Every field is given; the facade fills in the defaults. */
export interface BindingGenerateOptions {
  maxTokens: number
  temperature: number
  topK: number
  topP: number
  minP: number
  repeatPenalty: number
  /** How many of the last tokens the repeat penalty looks at. */
  repeatLastN: number
  /** null draws a random one; the seed in use is in the result. */
  seed: number | null
  stop: string[]
  minTokens: number
  ignoreEos: boolean
  /** Put the prompt's text in front of the answer. */
  echo: boolean
  /** How a text prompt is tokenised. */
  addSpecial: boolean
  parseSpecial: boolean
  /** A kept sequence to continue (see `openSequence`), or null for one that ends with the generation. */
  sequence: number | null
  /** Adapters to run with, or null for the model's own list. */
  lora: BindingLora[] | null
}

export interface BindingChunk {
  /** Whole code points. Empty when a token completed none. */
  text: string
  tokens: Uint32Array
  /** Index of the first of these tokens in the answer. */
  index: number
}

export interface BindingResult {
  text: string
  tokens: Uint32Array
  finishReason: 'stop' | 'length' | 'abort'
  /** The stop string that ended the answer, if one did. */
  stopText: string | null
  promptTokens: number
  /** Prompt tokens whose keys and values were already there. */
  cachedTokens: number
  completionTokens: number
  seed: number
  promptMs: number
  firstTokenMs: number
  decodeMs: number
}

/**
 * Called on the JS thread: any number of 'chunk' events, then exactly one 'end' or 'error'.
 */
export type BindingEvent =
  | { type: 'chunk'; chunk: BindingChunk }
  | { type: 'end'; result: BindingResult }
  | { type: 'error'; error: Error & { code: string } }

export interface BindingGeneration {
  /** Ends the generation within one step; its 'end' event says 'abort'. Any number of calls. */
  abort(): void
}

/** A request in progress that answers once. */
export interface BindingRequest<T> {
  readonly result: Promise<T>
  /** Rejects the result with ABORTED within one step, unless it is settled. Any number of calls. */
  abort(): void
}

export interface BindingTensor {
  /** Dequantised values, the first dimension contiguous. */
  data: Float32Array
  /** GGUF's order: `shape[0]` is the length of a row. */
  shape: number[]
  /** Storage type in the file, such as 'Q4_K'. */
  type: string
}

/** A conversation for a chat template. */
export interface BindingConversation {
  /** An array as JSON. */
  messages: string
  /** An array as JSON, or null. */
  tools: string | null
  /** An object as JSON. */
  variables: string
  addGenerationPrompt: boolean
  continueFinalMessage: boolean
  /** The name of a built-in template, Jinja, or null for the model's own. */
  template: string | null
}

/** Text, token ids, or a conversation. */
export type BindingPrompt = string | Uint32Array | BindingConversation

export interface BindingModel {
  info(): BindingModelInfo
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Uint32Array
  detokenize(ids: Uint32Array, special: boolean): string
  /** Holds its caller up, so a template has 50 ms here. */
  applyChatTemplate(conversation: BindingConversation): string
  /** A conversation is rendered where nobody is held up; its template has 500 ms. */
  generate(
    prompt: BindingPrompt,
    options: BindingGenerateOptions,
    onEvent: (event: BindingEvent) => void,
  ): BindingGeneration
  /** A sequence that keeps its KV cache between generations: a prompt is only read from where it differs. */
  openSequence(): number
  /** A second sequence with the same content; pages are shared until one of them changes. */
  forkSequence(sequence: number): number
  closeSequence(sequence: number): void
  /** Makes a LoRA adapter ready on a thread of the engine; bytes are copied before this returns. */
  loadAdapter(source: BindingSource): Promise<BindingAdapter>
  /** Frees an adapter when nothing runs with it any more; it leaves the model's own list. */
  removeAdapter(adapter: number): void
  /** Sets what everything runs with from now on that does not say otherwise. */
  setLora(lora: BindingLora[]): void
  /**
   * One vector per text; without pooling one after another for the tokens of a text.
   * @param pooling 'none' | 'mean' | 'cls' | 'last', or null for the file's own
   */
  embed(
    texts: (string | Uint32Array)[],
    pooling: string | null,
    normalize: boolean,
  ): BindingRequest<Float32Array[]>
  /** One score per document. */
  rank(query: string, documents: string[]): BindingRequest<Float32Array>
  embedTokens(ids: Uint32Array, position: number): BindingRequest<Float32Array>
  forwardLayer(
    layer: number,
    hidden: Float32Array,
    position: number,
    sequence: number,
  ): BindingRequest<Float32Array>
  computeLogits(hidden: Float32Array): BindingRequest<Float32Array>
  /** Frees the pages of a sequence of `forwardLayer`. */
  dropLayerSequence(sequence: number): void
  tensor(name: string): Promise<BindingTensor>
  tensorNames(): string[]
  /** Ends what is running with DISPOSED, frees the memory, then resolves. Any number of calls. */
  dispose(): Promise<void>
}

export interface BindingLoad {
  model: Promise<BindingModel>
  abort(): void
}

export interface BindingEstimation {
  estimate: Promise<BindingEstimate>
  /** Only where there is anything to be fetched first. */
  abort?(): void
}

/** The same operations, waiting for their result: for loops of one's own on a thread of one's own. */
export interface SyncBinding {
  storeModelSync(source: string | Uint8Array, options: BindingLoadOptions): BindingModel
  loadAdapterSync(model: BindingModel, source: string): BindingAdapter
  embedTokensSync(model: BindingModel, ids: Uint32Array, position: number): Float32Array
  forwardLayerSync(
    model: BindingModel,
    layer: number,
    hidden: Float32Array,
    position: number,
    sequence: number,
  ): Float32Array
  computeLogitsSync(model: BindingModel, hidden: Float32Array): Float32Array
  tensorSync(model: BindingModel, name: string): BindingTensor
  disposeSync(model: BindingModel): void
  /**
   * Bytes per second that `threads` threads (0 = as many as a model would get) read from memory
   * together, measured in about a second; null where there is no memory to measure with.
   */
  memoryBandwidthSync(threads: number): number | null
}

/** Every field is given; the facade fills in the defaults. */
export interface BindingQuantizeOptions {
  mix: string
  /** Path of an importance matrix, or null. */
  imatrix: string | null
  /** 0 = as many as the machine has. */
  threads: number
  allowRequantize: boolean
}

export interface BindingReport {
  tensors: { name: string; from: string; to: string }[]
  inputBytes: number
  outputBytes: number
}

export interface BindingQuantization {
  report: Promise<BindingReport>
  abort(): void
}

/** A lock that this process has, until `release` or its end. */
export interface FileLock {
  /** Any number of calls. */
  release(): void
}

/** Locks that processes share. Native only. */
export interface LockBinding {
  /**
   * Takes an exclusive lock on the file at `path`, which is made if it is not there; null while
   * somebody else has it. Throws WRITE_FAILED.
   */
  tryLockFile(path: string): FileLock | null
}

/** What writes model files; not in browsers. */
export interface QuantizeBinding {
  /**
   * Writes a model file in other types, on a thread of its own.
   * @param onProgress called with 0..=1
   */
  quantize(
    input: string,
    output: string,
    options: BindingQuantizeOptions,
    onProgress: ((fraction: number) => void) | null,
  ): BindingQuantization
}

/**
 * A path; bytes that are copied before the call returns, or several such for a split file. In
 * browsers whatever can be posted to a worker and opened there.
 */
export type BindingSource =
  | string
  | Uint8Array
  | Uint8Array[]
  | Blob
  | Blob[]
  | ReadableStream
  | HostedSource

/** An address for a browser's worker, with what its download is to be told. */
export interface HostedSource {
  address: string
  hubEndpoint: string | undefined
  hubToken: string | undefined
}

/**
 * What loading reports: the share of 0..=1 that is loaded, how far a download has come, or what
 * was decided.
 */
export type BindingProgress = number | LoadProgress | LogEntry

/** Somebody who listens. */
export interface BindingListening {
  /** Lets the function go. Any number of calls. */
  stop(): void
}

export interface Binding {
  version(): string
  /**
   * Calls `onEntry` with every warning and error of the process that belongs to no call, without
   * keeping the process alive. In browsers a model's come with the progress of its load.
   */
  listen(onEntry: (entry: LogEntry) => void): BindingListening
  backends(): Promise<BindingBackendInfo[]>
  /**
   * Loads on a thread of the engine.
   */
  load(
    source: BindingSource,
    options: BindingLoadOptions,
    onProgress: ((progress: BindingProgress) => void) | null,
  ): BindingLoad
  /** What `load` would take of memory, by the header alone: nothing is uploaded or opened. */
  estimate(
    source: BindingSource,
    options: BindingLoadOptions,
    onProgress: ((progress: BindingProgress) => void) | null,
  ): BindingEstimation
  /** Renders the conversation's template, which belongs to no model and has 50 ms. */
  renderChatTemplate(conversation: BindingConversation): string
}
