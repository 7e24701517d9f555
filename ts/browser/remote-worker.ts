/**
 * A model's worker as the page sees it: calls with answers, and events.
 */

import type {
  BindingEvent,
  BindingGeneration,
  BindingProgress,
  BindingPrompt,
  BindingRequest,
} from '../binding.js'
import { RealmError } from '../errors.js'
import {
  type EstimateRequest,
  fromPosted,
  type LoadRequest,
  type Method,
  type PostedError,
  type Reply,
  type Request,
  toPosted,
} from './protocol.js'
import { startWorker } from './start-worker.js'

type Loaded = Extract<Reply, { type: 'loaded' }>
type Estimated = Extract<Reply, { type: 'estimated' }>

interface Waiting {
  resolve(value: unknown): void
  reject(error: Error): void
}

export class RemoteWorker {
  readonly #answer: Promise<Loaded | Estimated>
  readonly #worker: Worker
  readonly #calls = new Map<number, Waiting>()
  readonly #listeners = new Map<number, (event: BindingEvent) => void>()
  #load!: Waiting
  #last = 0
  /** Why there will be no more answers. */
  #ended: PostedError | undefined

  constructor(
    request: LoadRequest | EstimateRequest,
    onProgress: ((progress: BindingProgress) => void) | null,
  ) {
    this.#answer = new Promise((resolve, reject) => {
      this.#load = { resolve: resolve as Waiting['resolve'], reject }
    })
    this.#worker = startWorker()
    this.#worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#hear(data, onProgress)
    this.#worker.onerror = (event) => {
      event.preventDefault()
      this.end({
        code: 'BACKEND_UNAVAILABLE',
        message: `the engine's worker did not start: ${event.message ?? 'it could not be fetched'}`,
      })
    }
    this.#worker.onmessageerror = () =>
      this.end({ code: 'INTERNAL', message: "an answer of the engine's worker could not be read" })
    const { source } = request
    try {
      this.#post(request, source instanceof ReadableStream ? [source] : [])
    } catch (error) {
      // A stream that somebody began to read since it was checked.
      const { message } = toPosted(error)
      this.end({ code: 'INVALID_ARGUMENT', message: `model source: ${message}` })
    }
  }

  /** The answer to a request to load. */
  get loaded(): Promise<Loaded> {
    return this.#answer as Promise<Loaded>
  }

  /** The answer to a request to estimate. */
  get estimated(): Promise<Estimated> {
    return this.#answer as Promise<Estimated>
  }

  abortLoad(): void {
    this.#post({ type: 'abort-load' })
  }

  call<T>(method: Method, ...args: unknown[]): Promise<T> {
    return this.request<T>(method, ...args).result
  }

  /** A call that can be aborted, where the method is one that takes its time. */
  request<T>(method: Method, ...args: unknown[]): BindingRequest<T> {
    const id = ++this.#last
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }))
    this.#post({ type: 'call', id, method, args })
    return { result: answer as Promise<T>, abort: () => this.#post({ type: 'abort', id }) }
  }

  generate(
    prompt: BindingPrompt,
    options: Extract<Request, { type: 'generate' }>['options'],
    onEvent: (event: BindingEvent) => void,
  ): BindingGeneration {
    const id = ++this.#last
    this.#listeners.set(id, onEvent)
    this.#post({ type: 'generate', id, prompt, options })
    return {
      abort: () => this.#post({ type: 'abort', id }),
      allow: (tokens) => this.#post({ type: 'allow', id, tokens }),
    }
  }

  /** Ends the worker: whoever waits gets `error`, and so does whoever asks later. */
  end(error: PostedError): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    this.#worker.terminate()
    this.#load.reject(fromPosted(error))
    for (const { reject } of this.#calls.values()) reject(fromPosted(error))
    for (const onEvent of this.#listeners.values())
      onEvent({ type: 'error', error: fromPosted(error) })
    this.#calls.clear()
    this.#listeners.clear()
  }

  #post(request: Request, transfer: Transferable[] = []): void {
    if (this.#ended === undefined) {
      this.#worker.postMessage(request, transfer)
    } else if (request.type === 'call') {
      this.#calls.get(request.id)?.reject(fromPosted(this.#ended))
      this.#calls.delete(request.id)
    } else if (request.type === 'generate') {
      this.#listeners.delete(request.id)
      throw fromPosted(this.#ended)
    }
  }

  #hear(reply: Reply, onProgress: ((progress: BindingProgress) => void) | null): void {
    if (reply.type === 'progress') onProgress?.(reply.progress)
    else if (reply.type === 'loaded' || reply.type === 'estimated') this.#load.resolve(reply)
    else if (reply.type === 'load-failed') this.end(reply.error)
    else if (reply.type === 'crashed') this.end(reply.error)
    else if (reply.type === 'event') this.#event(reply)
    else {
      const waiting = this.#calls.get(reply.id)
      this.#calls.delete(reply.id)
      if (reply.type === 'settled') waiting?.resolve(reply.value)
      else waiting?.reject(fromPosted(reply.error))
    }
  }

  #event({ id, event }: Extract<Reply, { type: 'event' }>): void {
    const listener = this.#listeners.get(id)
    if (event.type !== 'chunk') this.#listeners.delete(id)
    listener?.(event.type === 'error' ? { type: 'error', error: fromPosted(event.error) } : event)
  }
}

/** Nobody is there any more. */
export const DISPOSED: PostedError = {
  code: 'DISPOSED',
  message: new RealmError('DISPOSED', 'the model was disposed of').message,
}
