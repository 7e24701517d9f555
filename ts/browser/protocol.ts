/**
 * What a page and the worker of one of its models say to each other.
 */

import type {
  BindingEstimate,
  BindingEvent,
  BindingGenerateOptions,
  BindingLoadOptions,
  BindingModelInfo,
  BindingProgress,
  BindingPrompt,
  PostedSource,
} from '../binding.js'
import type { Build } from './features.js'
import type { Snapshot } from './snapshot.js'

/** What loading a model takes. Modules are compiled once, and shared with the page. */
export interface LoadRequest {
  type: 'load'
  /** In the order to be tried; there is one. */
  attempts: Attempt[]
  /** The build of the first attempt. The others are fetched when they are needed. */
  module: WebAssembly.Module
  source: PostedSource
  options: BindingLoadOptions
}

/** Asks what loading it would take of memory; the worker is of no use afterwards. */
export interface EstimateRequest extends Omit<LoadRequest, 'type'> {
  type: 'estimate'
}

/** A build that may run the model, and the backends to be tried there, in this order. */
export interface Attempt {
  build: Build
  backends: BackendWish[]
}

/** A backend to be tried; what speaks against it is empty when nothing does. */
export interface BackendWish {
  name: string
  refusal: string
}

/** Makes the worker a thread of the engine in another worker. */
export interface LendRequest {
  type: 'lend'
  build: Build
  module: WebAssembly.Module
  memory: WebAssembly.Memory
}

/** Calls by number; the answer has the same. */
export type Request =
  | LoadRequest
  | EstimateRequest
  | LendRequest
  | { type: 'abort-load' }
  | { type: 'call'; id: number; method: Method; args: unknown[] }
  | { type: 'generate'; id: number; prompt: BindingPrompt; options: BindingGenerateOptions }
  | { type: 'abort'; id: number }
  | { type: 'allow'; id: number; tokens: number }

/** Methods of the engine's model that are called by name. */
export type Method =
  | 'closeSequence'
  | 'computeLogits'
  | 'dispose'
  | 'dropLayerSequence'
  | 'embed'
  | 'embedTokens'
  | 'forkSequence'
  | 'forwardLayer'
  | 'loadAdapter'
  | 'openSequence'
  | 'rank'
  | 'removeAdapter'
  | 'setLora'
  | 'tensor'

/** An error on its way: errors lose their code when they are posted. */
export interface PostedError {
  code: string
  message: string
}

export type Reply =
  | { type: 'progress'; progress: BindingProgress }
  | {
      type: 'loaded'
      info: BindingModelInfo
      /** What it runs on, and its module. */
      build: Build
      module: WebAssembly.Module
      vocabulary: Snapshot
    }
  | { type: 'estimated'; estimate: BindingEstimate }
  | { type: 'load-failed'; error: PostedError }
  | { type: 'settled'; id: number; value: unknown }
  | { type: 'failed'; id: number; error: PostedError }
  | { type: 'event'; id: number; event: PostedEvent }
  /** Nothing more will come: the engine met a defect, or ran out of memory. */
  | { type: 'crashed'; error: PostedError }

export type PostedEvent =
  | Exclude<BindingEvent, { type: 'error' }>
  | { type: 'error'; error: PostedError }

/** An error in the form it is posted in. */
export function toPosted(error: unknown): PostedError {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown }
  return {
    code: typeof code === 'string' ? code : 'INTERNAL',
    message: typeof message === 'string' ? message : String(error),
  }
}

/** The error that was posted. */
export function fromPosted({ code, message }: PostedError): Error & { code: string } {
  return Object.assign(new Error(message), { code })
}
