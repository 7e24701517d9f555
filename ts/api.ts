/**
 * The part of the public API that is the same in Node and in browsers.
 */

export type { Activations, TokenIds } from './arrays.js'
export type { CachedModel, ModelCache, StorageQuota } from './cache.js'
export {
  type ChatContentPart,
  type ChatMessage,
  type ChatOptions,
  type ChatTool,
  renderChatTemplate,
  type TemplateOptions,
} from './chat.js'
export { RealmError, type RealmErrorCode } from './errors.js'
export type { MemoryEstimate } from './estimate.js'
export { type GenerateChunk, type GenerateResult, Generation } from './generation.js'
export {
  LoraAdapter,
  type LoraInfo,
  type LoraOption,
  type LoraSource,
  type LoraUse,
} from './lora.js'
export { Model, type ModelInfo, type Tensor } from './model.js'
export type {
  AdapterOptions,
  BackendName,
  CompletionOptions,
  DetokenizeOptions,
  EmbedOptions,
  EmbedTokensOptions,
  EstimateOptions,
  GenerateOptions,
  LayerOptions,
  LoadOptions,
  QuantizeOptions,
  RealmOptions,
  RequestOptions,
  TokenizeOptions,
} from './options.js'
export { version } from './platform.js'
export { type BackendInfo, Realm } from './realm.js'
export type { LoadProgress, LogEntry } from './reports.js'
export { Session, type SessionOptions } from './session.js'
export type { ModelSource, RemoteSource } from './sources/model-source.js'
