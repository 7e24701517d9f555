/**
 * A loaded model: text to tokens and back, answers, and its layers one by one.
 */

import { type Activations, type TokenIds, toActivations, toTokenIds } from './arrays.js'
import type { BindingModel, BindingModelInfo, BindingRequest } from './binding.js'
import { isAborted, listen, runFor } from './callers.js'
import { type ChatMessage, type ChatOptions, type TemplateOptions, toConversation } from './chat.js'
import { guarded, guardedAsync, RealmError } from './errors.js'
import { Generation, type GenerationPlan } from './generation.js'
import { LoraAdapter, type LoraOption, type LoraUse, readLora, toBindingLora } from './lora.js'
import {
  type AdapterOptions,
  type CompletionOptions,
  type DetokenizeOptions,
  type EmbedOptions,
  type EmbedTokensOptions,
  type LayerOptions,
  type RequestOptions,
  readAdapterOptions,
  readChatOptions,
  readCompletionOptions,
  readDetokenizeOptions,
  readEmbedOptions,
  readEmbedTokensOptions,
  readLayerOptions,
  readRequestOptions,
  readTokenizeOptions,
  type TokenizeOptions,
  toBindingGenerate,
} from './options.js'
import { resolveSource } from './platform.js'
import { Session, type SessionOptions } from './session.js'
import type { ModelSource, SourceSettings } from './sources/model-source.js'
import { invalid, reading, requireInteger, requireString } from './validate.js'

/** What a model is and how it was loaded. */
export type ModelInfo = Readonly<BindingModelInfo>

/** A weight, dequantised. */
export interface Tensor {
  /** Values, the first dimension contiguous. */
  data: Float32Array
  /** GGUF's order: `shape[0]` is the length of a row. */
  shape: number[]
  /** Storage type in the file, such as 'Q4_K'. */
  type: string
}

/**
 * What a request of the engine comes to. Its signal ends it there.
 *
 * @param what for the message of an abort
 */
async function settled<T>(
  what: string,
  signal: AbortSignal | undefined,
  start: () => BindingRequest<T>,
): Promise<T> {
  const throwIfAborted = () => {
    if (!isAborted(signal)) return
    const cause = reading('signal', () => signal?.reason)
    throw new RealmError('ABORTED', `${what} was stopped by its signal`, { cause })
  }
  throwIfAborted()
  let request: BindingRequest<T> | undefined
  const endListening = listen(signal, () => request?.abort())
  try {
    const started = guarded(start)
    request = started
    return await guardedAsync(() => started.result)
  } finally {
    endListening()
    throwIfAborted()
  }
}

/**
 * What to embed, and whether it came as a list.
 * @throws RealmError INVALID_ARGUMENT  not a text, token ids or an array of them
 */
function toEmbedInputs(input: unknown): { isList: boolean; texts: (string | Uint32Array)[] } {
  const one = (what: string, expected: string, value: unknown) => {
    if (typeof value === 'string') return value
    if (Array.isArray(value) || ArrayBuffer.isView(value)) return toTokenIds(what, value)
    throw invalid(what, expected, value)
  }
  return reading('input', () => {
    const isList = Array.isArray(input) && typeof input[0] !== 'number'
    const texts = isList
      ? Array.from(input, (item, i) => one(`input[${i}]`, 'text or token ids', item))
      : [one('input', 'text, token ids or an array of them', input)]
    return { isList, texts }
  })
}

/** A chat's prompt has its special tokens spelt out by the template. */
const TEMPLATE_TOKENS = { addSpecial: false, parseSpecial: true }

/**
 * Made by `realm.load`. Every method throws or rejects with DISPOSED after `dispose`. Of a file
 * without a vocabulary (`info.tokenizer` is 'no_vocab'), those that take token ids work, and those
 * that take text throw or reject with INVALID_ARGUMENT.
 */
export class Model {
  /** Architecture, sizes, tokenizer, template, and what the engine chose for it. */
  readonly info: ModelInfo
  readonly #binding: BindingModel
  readonly #onDispose: (model: Model) => void
  readonly #settings: SourceSettings
  /** Aborted when the model is disposed of. */
  readonly #stop = new AbortController()
  #lora: Required<LoraUse>[] = []
  #disposed: Promise<void> | undefined

  /** @internal */
  constructor(binding: BindingModel, onDispose: (model: Model) => void, settings: SourceSettings) {
    this.#binding = binding
    this.#onDispose = onDispose
    this.#settings = settings
    this.info = Object.freeze(guarded(() => binding.info()))
  }

  /** Number of transformer blocks. */
  get layerCount(): number {
    return this.info.layerCount
  }

  /**
   * Values per token between two blocks: `info.embeddingSize`, and behind it what else a family
   * hands on: further streams (Gemma 3n), inputs for each block (Gemma 3n, Gemma 4).
   */
  get hiddenSize(): number {
    return this.info.hiddenSize
  }

  /** Number of token ids, and of logits per token. */
  get vocabularySize(): number {
    return this.info.vocabularySize
  }

  /**
   * Splits text into token ids. By default the text is plain data: nothing is added, and the
   * name of a special token in it is text like any other.
   *
   * @throws RealmError INVALID_ARGUMENT  text is not a string, or the file has no vocabulary
   */
  tokenize(text: string, options?: TokenizeOptions): Uint32Array {
    requireString('text', text)
    const { addSpecial, parseSpecial } = readTokenizeOptions(options)
    return guarded(() => this.#live().tokenize(text, addSpecial, parseSpecial))
  }

  /**
   * Joins token ids to text. Bytes that are not UTF-8 become U+FFFD. A tokenizer that puts a space in
   * front of text (SentencePiece) loses it again in front of the first id; behind a BOS token it
   * stays, as in llama.cpp.
   *
   * @throws RealmError INVALID_ARGUMENT  an id is not in the vocabulary, or the file has none
   */
  detokenize(ids: TokenIds, options?: DetokenizeOptions): string {
    const tokens = toTokenIds('ids', ids)
    const unknown = tokens.findIndex((id) => id >= this.vocabularySize)
    if (unknown >= 0)
      throw invalid(`ids[${unknown}]`, `an id below ${this.vocabularySize}`, tokens[unknown])
    const { special } = readDetokenizeOptions(options)
    return guarded(() => this.#live().detokenize(tokens, special))
  }

  /**
   * Renders a conversation with the model's chat template: the file's own, or the built-in one
   * that fits its vocabulary (`info.chatTemplateOrigin` says which), unless an option names another.
   * The caller waits, so the template may run for 50 ms; in `chat` and sessions, where nobody waits
   * for it alone, for half a second.
   *
   * @throws RealmError TEMPLATE_ERROR    there is no template, it raised an error, or takes longer
   * @throws RealmError INVALID_ARGUMENT  a message without a role, a value that JSON cannot hold
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: TemplateOptions): string {
    const conversation = toConversation(messages, options)
    const binding = this.#live()
    return guarded(() => binding.applyChatTemplate(conversation))
  }

  /**
   * Continues a prompt. The work starts at once, on the engine's own threads.
   *
   * @param prompt text, or token ids that are taken as they are; without any token (an empty text
   *   of a model without BOS, no ids) there is nothing to continue
   * @returns a Generation: await it for the result, iterate it for the chunks; what is wrong
   *   with the arguments rejects it with INVALID_ARGUMENT, a weight that turns out to be NaN or
   *   infinite with MODEL_INVALID
   */
  generate(prompt: string | TokenIds, options?: CompletionOptions): Generation {
    try {
      return this.generateIn(null, prompt, options)
    } catch (error) {
      return Generation.failed(error)
    }
  }

  /**
   * Answers a conversation, through the model's chat template.
   *
   * @returns a Generation; TEMPLATE_ERROR rejects it when the file has no template, or the template
   *   raised an error or runs for more than half a second
   */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Generation {
    try {
      return this.generateChat(messages, options, null)
    } catch (error) {
      return Generation.failed(error)
    }
  }

  /**
   * A conversation that keeps its KV cache: what was said before is not read again.
   *
   * @throws RealmError KV_EXHAUSTED      no sequence is free
   * @throws RealmError INVALID_ARGUMENT  an option is wrong
   */
  session(options?: SessionOptions): Session {
    return new Session(this, this.#live(), options)
  }

  /**
   * Loads a LoRA adapter for this model: a GGUF file of llama.cpp's adapter format. The model's
   * weights stay as they are; the adapter counts where `lora` or `setLora` names it.
   *
   * @throws RealmError MODEL_NOT_FOUND, MODEL_UNREADABLE  the file is not there or cannot be read
   * @throws RealmError MODEL_INVALID      no adapter, or one that does not fit this model or has
   *   weights that are NaN or infinite
   * @throws RealmError MODEL_UNSUPPORTED  it changes what cannot be changed, or the backend has no
   *   adapters
   * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, WRITE_FAILED  as for `realm.load`
   * @throws RealmError ABORTED            the signal was aborted, or onProgress threw; the cause
   *   says why
   * @throws RealmError DISPOSED           the model was disposed of
   * @throws RealmError INVALID_ARGUMENT   no such source, or an option is wrong
   */
  async loadAdapter(source: ModelSource, options?: AdapterOptions): Promise<LoraAdapter> {
    this.#live()
    const { revalidate, ...checked } = readAdapterOptions(options)
    return runFor(
      'loading an adapter',
      { ...checked, owner: this.#stop.signal },
      async (context) => {
        const fetching = { ...this.#settings, ...context, revalidate }
        const opened = await resolveSource(source, fetching)
        // The engine has copied what it needs of the file then.
        const loaded = await guardedAsync(() => this.#live().loadAdapter(opened.source)).finally(
          opened.release,
        )
        return new LoraAdapter(this.#binding, loaded, (gone) => {
          this.#lora = this.#lora.filter(({ adapter }) => adapter !== gone)
        })
      },
      (adapter) => adapter.dispose(),
    )
  }

  /** What runs with no `lora` of its own: generations, embeddings, layers. A copy. */
  get lora(): Required<LoraUse>[] {
    return this.#lora.map((use) => ({ ...use }))
  }

  /**
   * Replaces the adapters that everything runs with from now on that does not say otherwise; []
   * for none. Answers under way go on with what they began with.
   *
   * @throws RealmError INVALID_ARGUMENT  no adapter of this model, or a scale that is not finite
   */
  setLora(lora: LoraOption): void {
    const uses = readLora(lora)
    const binding = this.#live()
    const settings = toBindingLora(uses, binding) ?? []
    guarded(() => binding.setLora(settings))
    this.#lora = uses.map(({ item, scale }) => ({ adapter: item, scale }))
  }

  /**
   * Turns texts into vectors that are close when the texts mean something similar. Several
   * texts at once are faster than one after another.
   *
   * An encoder (BERT and its kin) reads a text as a whole: it must fit the context.
   *
   * @param input text, with the model's special tokens around it; or token ids, taken as they are;
   *   or a list of such. An array of numbers is the ids of one text, an empty array an empty list
   * @returns [embeddingSize] for a text, such an array for each of several; with pooling 'none'
   *   [tokens, embeddingSize], row-major
   * @throws RealmError INVALID_ARGUMENT  a text has no tokens, an id is not in the vocabulary
   * @throws RealmError KV_EXHAUSTED      a text is longer than the context
   * @throws RealmError MODEL_INVALID     a weight of the file is NaN or infinite, and a value is so too
   * @throws RealmError ABORTED           the signal was aborted
   */
  embed(input: readonly (string | TokenIds)[], options?: EmbedOptions): Promise<Float32Array[]>
  embed(input: string | TokenIds, options?: EmbedOptions): Promise<Float32Array>
  async embed(
    input: string | TokenIds | readonly (string | TokenIds)[],
    options?: EmbedOptions,
  ): Promise<Float32Array | Float32Array[]> {
    const { pooling, normalize, signal } = readEmbedOptions(options)
    const { isList, texts } = toEmbedInputs(input)
    const embed = () => this.#live().embed(texts, pooling, normalize)
    const vectors = await settled('embedding', signal, embed)
    return isList ? vectors : (vectors[0] as Float32Array)
  }

  /**
   * Says how well each document answers a query. For models that rank (`info.pooling` is
   * 'rank'); with others, compare embeddings.
   *
   * @returns a score per document, in their order; higher is better, the scale is the model's own
   * @throws RealmError INVALID_ARGUMENT  the model does not rank
   * @throws RealmError KV_EXHAUSTED      query and document together are longer than the context
   * @throws RealmError ABORTED           the signal was aborted
   */
  async rerank(
    query: string,
    documents: readonly string[],
    options?: RequestOptions,
  ): Promise<number[]> {
    const { signal } = readRequestOptions('rerank', options)
    requireString('query', query)
    const texts = reading('documents', () => {
      if (!Array.isArray(documents)) throw invalid('documents', 'an array of strings', documents)
      return Array.from(documents, (text, i) => requireString(`documents[${i}]`, text))
    })
    const rank = () => this.#live().rank(query, texts)
    return [...(await settled('ranking', signal, rank))]
  }

  /**
   * Looks up tokens: the input of the first block.
   *
   * @returns activations [tokens, hiddenSize], row-major f32
   * @throws RealmError INVALID_ARGUMENT  an id is not in the vocabulary
   * @throws RealmError KV_EXHAUSTED      the model has learned positions, and the context ends
   *   before those of the tokens
   * @throws RealmError ABORTED           the signal was aborted
   */
  async embedTokens(ids: TokenIds, options?: EmbedTokensOptions): Promise<Float32Array> {
    const { position, signal } = readEmbedTokensOptions(options)
    const tokens = toTokenIds('ids', ids)
    return settled('embedTokens', signal, () => this.#live().embedTokens(tokens, position))
  }

  /**
   * Runs one transformer block and writes the keys and values of its rows to the KV cache.
   *
   * @param layer  block index, 0 <= layer < layerCount
   * @param hidden activations [tokens, hiddenSize], row-major f32; not modified
   * @returns new activations of the same shape
   * @throws RealmError SHAPE_MISMATCH    hidden is not whole rows of hiddenSize
   * @throws RealmError INVALID_ARGUMENT  no such layer, or a position past the context
   * @throws RealmError KV_EXHAUSTED      no free page even when nobody else runs; the sequence is
   *   unchanged
   * @throws RealmError ABORTED           the signal was aborted
   */
  async forwardLayer(
    layer: number,
    hidden: Activations,
    options?: LayerOptions,
  ): Promise<Float32Array> {
    requireInteger('layer', layer, 0, this.layerCount - 1)
    const { position, sequence, signal } = readLayerOptions(options)
    const rows = toActivations('hidden', hidden)
    const run = () => this.#live().forwardLayer(layer, rows, position, sequence)
    return settled('forwardLayer', signal, run)
  }

  /**
   * Runs the output norm and the head.
   *
   * @param hidden activations [tokens, hiddenSize] that the last block gave
   * @returns logits [tokens, vocabularySize], row-major f32
   * @throws RealmError SHAPE_MISMATCH  hidden is not whole rows of hiddenSize
   * @throws RealmError ABORTED         the signal was aborted
   */
  async computeLogits(hidden: Activations, options?: RequestOptions): Promise<Float32Array> {
    const { signal } = readRequestOptions('computeLogits', options)
    const rows = toActivations('hidden', hidden)
    return settled('computeLogits', signal, () => this.#live().computeLogits(rows))
  }

  /** Frees the keys and values that `forwardLayer` keeps for a sequence. */
  dropLayerSequence(sequence: number): void {
    requireInteger('sequence', sequence, 0)
    guarded(() => this.#live().dropLayerSequence(sequence))
  }

  /**
   * A weight by its GGUF name, such as 'blk.0.attn_q.weight'.
   *
   * @throws RealmError INVALID_ARGUMENT  no tensor has this name
   */
  async tensor(name: string): Promise<Tensor> {
    requireString('name', name)
    return guardedAsync(() => this.#live().tensor(name))
  }

  /** Names of all weights, in the file's order. */
  tensorNames(): string[] {
    return guarded(() => this.#live().tensorNames())
  }

  /**
   * Ends what is running with DISPOSED, frees the memory, then resolves. Any number of calls.
   */
  dispose(): Promise<void> {
    if (this.#disposed === undefined) {
      this.#stop.abort(new RealmError('DISPOSED', 'the model was disposed of'))
      const freed = guardedAsync(() => this.#binding.dispose())
      this.#disposed = freed.finally(() => this.#onDispose(this))
    }
    return this.#disposed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /**
   * A sequence that keeps its KV cache between generations, until `closeSequence`.
   * @internal
   */
  openSequence(): number {
    return guarded(() => this.#live().openSequence())
  }

  /** @internal */
  closeSequence(sequence: number): void {
    guarded(() => this.#live().closeSequence(sequence))
  }

  /**
   * `generate`, on a sequence of one's own, or on none.
   * @internal
   */
  generateIn(
    sequence: number | null,
    prompt: string | TokenIds,
    options?: CompletionOptions,
  ): Generation {
    const { signal, addSpecial, parseSpecial, ...rest } = readCompletionOptions(options)
    const tokens = { addSpecial, parseSpecial }
    const input = typeof prompt === 'string' ? prompt : toTokenIds('prompt', prompt)
    const binding = this.#live()
    const settings = toBindingGenerate(rest, tokens, this.info.contextLength, sequence, binding)
    return new Generation({
      start: (onEvent) => binding.generate(input, settings, onEvent),
      signal,
      loadMs: this.info.loadMs,
      echo: settings.echo,
      maxBuffered: settings.maxBuffered,
    })
  }

  /**
   * `chat`, on a sequence of one's own.
   * @internal
   */
  generateChat(
    messages: readonly ChatMessage[],
    options: ChatOptions | undefined,
    sequence: number | null,
    onSettled?: GenerationPlan['onSettled'],
  ): Generation {
    const { signal, tools, documents, variables, template, ...rest } = readChatOptions(options)
    const prompt = toConversation(messages, { tools, documents, variables, template })
    const binding = this.#live()
    const { contextLength } = this.info
    const settings = toBindingGenerate(rest, TEMPLATE_TOKENS, contextLength, sequence, binding)
    return new Generation({
      start: (onEvent) => binding.generate(prompt, settings, onEvent),
      signal,
      loadMs: this.info.loadMs,
      echo: settings.echo,
      maxBuffered: settings.maxBuffered,
      onSettled,
    })
  }

  #live(): BindingModel {
    if (this.#disposed === undefined) return this.#binding
    throw new RealmError('DISPOSED', 'the model was disposed of')
  }
}
