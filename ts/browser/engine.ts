/**
 * The WebAssembly engine, as its bindings in crates/web export it.
 */

import type {
  Binding,
  BindingAdapter,
  BindingEstimate,
  BindingEvent,
  BindingGenerateOptions,
  BindingGeneration,
  BindingLoad,
  BindingLoadOptions,
  BindingLora,
  BindingModel,
  BindingPrompt,
  BindingRequest,
} from '../binding.js'
import type { LogEntry } from '../reports.js'
import type { Build } from './features.js'
import { importScript } from './wasm.js'

/** What the engine reads a file's bytes from. */
export interface FileBytes {
  readonly size: number
  read(offset: number, length: number): Uint8Array
  close(): void
}

/** A request of the engine that answers once. */
export interface EngineRequest<T> extends BindingRequest<T> {
  free(): void
}

/** Methods of a model that start such a request. */
export type RequestMethod = 'embed' | 'rank' | 'embedTokens' | 'forwardLayer' | 'computeLogits'

/** The same methods, as the engine has them. */
type RequestMethods = {
  [name in RequestMethod]: (
    ...args: Parameters<BindingModel[name]>
  ) => ReturnType<BindingModel[name]> & { free(): void }
}

/** A model of the engine: a BindingModel whose lists are plain arrays. */
export interface EngineModel
  extends Omit<BindingModel, 'loadAdapter' | 'setLora' | RequestMethod>,
    RequestMethods {
  generate(
    prompt: BindingPrompt,
    options: BindingGenerateOptions,
    onEvent: (event: BindingEvent) => void,
  ): BindingGeneration & { free(): void }
  loadAdapter(parts: Uint8Array[]): Promise<BindingAdapter>
  setLora(lora: BindingLora[]): void
  headerBytes(): Float64Array
  free(): void
  /** Where it lies in the engine's memory. */
  readonly __wbg_ptr: number
}

/** What one instance exports. */
export interface Engine extends Pick<Binding, 'renderChatTemplate'> {
  load(
    sources: FileBytes[],
    backends: string[],
    refusals: string[],
    options: BindingLoadOptions,
    onProgress: ((fraction: number) => void) | null,
  ): Omit<BindingLoad, 'model'> & { readonly model: Promise<EngineModel>; free(): void }
  estimate(
    sources: FileBytes[],
    backends: string[],
    refusals: string[],
    options: BindingLoadOptions,
  ): Promise<BindingEstimate>
  /** Calls `onEntry` with the warnings and errors of this instance that belong to no call. */
  listen(onEntry: (level: LogEntry['level'], message: string) => void): void
  /** Never returns. Only in the build with threads. */
  lendThread?(): void
  /** Threads that a model would compute with if it were loaded now. In builds for the CPU. */
  threads?(): number
  version(): string
  WebModel: { prototype: EngineModel }
}

/** The JavaScript side of an instance before it has one. */
export interface EngineScript extends Engine {
  default(input: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<Raw>
}

/** The exports of an instance as WebAssembly sees them. */
interface Raw {
  memory: WebAssembly.Memory
  /** JavaScript values that the engine holds. */
  __wbindgen_externrefs: WebAssembly.Table
}

/** An engine with the insides of its instance. */
export interface Instance {
  engine: Engine
  raw: Raw
}

/** A new instance of a compiled module; with `memory`, one more thread on it. */
export async function startEngine(
  build: Build,
  module: WebAssembly.Module,
  memory?: WebAssembly.Memory,
): Promise<Instance> {
  const { createEngine } = await importScript(build)
  const engine = createEngine()
  const raw = await engine.default({ module_or_path: module, ...(memory && { memory }) })
  return { engine, raw }
}
