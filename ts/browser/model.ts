/**
 * A model that runs in a worker, with its vocabulary on this thread: what does not wait is done
 * here, the rest is asked for.
 */

import type {
  BindingAdapter,
  BindingConversation,
  BindingEvent,
  BindingGenerateOptions,
  BindingGeneration,
  BindingLora,
  BindingModel,
  BindingModelInfo,
  BindingPrompt,
  BindingRequest,
  BindingTensor,
  PostedSource,
} from '../binding.js'
import { RealmError } from '../errors.js'
import type { EngineModel } from './engine.js'
import { DISPOSED, type RemoteWorker } from './remote-worker.js'

export class BrowserModel implements BindingModel {
  readonly #worker: RemoteWorker
  readonly #info: BindingModelInfo
  readonly #vocabulary: EngineModel
  readonly #sequences = new Set<number>()
  #lastSequence = 0
  #disposed: Promise<void> | undefined

  constructor(worker: RemoteWorker, info: BindingModelInfo, vocabulary: EngineModel) {
    this.#worker = worker
    this.#info = info
    this.#vocabulary = vocabulary
  }

  info(): BindingModelInfo {
    return this.#info
  }

  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Uint32Array {
    return this.#vocabulary.tokenize(text, addSpecial, parseSpecial)
  }

  detokenize(ids: Uint32Array, special: boolean): string {
    return this.#vocabulary.detokenize(ids, special)
  }

  applyChatTemplate(conversation: BindingConversation): string {
    return this.#vocabulary.applyChatTemplate(conversation)
  }

  tensorNames(): string[] {
    return this.#vocabulary.tensorNames()
  }

  generate(
    prompt: BindingPrompt,
    options: BindingGenerateOptions,
    onEvent: (event: BindingEvent) => void,
  ): BindingGeneration {
    return this.#worker.generate(prompt, options, onEvent)
  }

  openSequence(): number {
    const id = this.#addSequence()
    this.#tell(this.#worker.call('openSequence', id))
    return id
  }

  forkSequence(sequence: number): number {
    this.#checkSequence(sequence)
    const id = this.#addSequence()
    this.#tell(this.#worker.call('forkSequence', sequence, id))
    return id
  }

  closeSequence(sequence: number): void {
    this.#checkSequence(sequence)
    this.#sequences.delete(sequence)
    this.#tell(this.#worker.call('closeSequence', sequence))
  }

  loadAdapter(source: PostedSource): Promise<BindingAdapter> {
    return this.#worker.call('loadAdapter', source)
  }

  removeAdapter(adapter: number): void {
    this.#tell(this.#worker.call('removeAdapter', adapter))
  }

  setLora(lora: BindingLora[]): void {
    this.#tell(this.#worker.call('setLora', lora))
  }

  embed(
    texts: (string | Uint32Array)[],
    pooling: string | null,
    normalize: boolean,
  ): BindingRequest<Float32Array[]> {
    return this.#worker.request('embed', texts, pooling, normalize)
  }

  rank(query: string, documents: string[]): BindingRequest<Float32Array> {
    return this.#worker.request('rank', query, documents)
  }

  embedTokens(ids: Uint32Array, position: number): BindingRequest<Float32Array> {
    return this.#worker.request('embedTokens', ids, position)
  }

  forwardLayer(
    layer: number,
    hidden: Float32Array,
    position: number,
    sequence: number,
  ): BindingRequest<Float32Array> {
    return this.#worker.request('forwardLayer', layer, hidden, position, sequence)
  }

  computeLogits(hidden: Float32Array): BindingRequest<Float32Array> {
    return this.#worker.request('computeLogits', hidden)
  }

  dropLayerSequence(sequence: number): void {
    this.#tell(this.#worker.call('dropLayerSequence', sequence))
  }

  tensor(name: string): Promise<BindingTensor> {
    return this.#worker.call('tensor', name)
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose()
    return this.#disposed
  }

  /** The worker's memory goes with the worker, the vocabulary's with this object. */
  async #dispose(): Promise<void> {
    // A worker that has crashed has nothing left to dispose of.
    await this.#worker.call('dispose').catch(() => {})
    this.#worker.end(DISPOSED)
  }

  #addSequence(): number {
    const id = ++this.#lastSequence
    this.#sequences.add(id)
    return id
  }

  #checkSequence(id: number): void {
    if (!this.#sequences.has(id))
      throw new RealmError('INVALID_ARGUMENT', `sequence ${id} is not open`)
  }

  /** A call that nobody waits for: what goes wrong shows in the calls that follow. */
  #tell(answer: Promise<unknown>): void {
    answer.catch(() => {})
  }
}
