/**
 * The WebAssembly engine, as its bindings in crates/web export it.
 */

import * as simd from 'realm-engine/simd'
import type {
  BindingAdapter,
  BindingEvent,
  BindingGenerateOptions,
  BindingLoad,
  BindingLoadOptions,
  BindingLora,
  BindingModel,
} from '../binding.js'
import type { Build } from './features.js'

/** What the engine reads a file's bytes from. */
export interface FileBytes {
  readonly size: number
  read(offset: number, length: number): Uint8Array
  close(): void
}

/** A model of the engine: a BindingModel whose lists are plain arrays. */
export interface EngineModel extends Omit<BindingModel, 'loadAdapter' | 'rank' | 'setLora'> {
  generate(
    prompt: string | Uint32Array,
    options: BindingGenerateOptions,
    onEvent: (event: BindingEvent) => void,
  ): { abort(): void; free(): void }
  loadAdapter(parts: Uint8Array[]): Promise<BindingAdapter>
  rank(query: string, documents: string[]): Promise<Float32Array>
  setLora(lora: BindingLora[]): void
  headerBytes(): Float64Array
  free(): void
}

/** The exports of one build. */
export interface Engine {
  default(input: { module_or_path: WebAssembly.Module }): Promise<unknown>
  load(
    sources: FileBytes[],
    backends: string[],
    refusals: string[],
    options: BindingLoadOptions,
    onProgress: ((fraction: number) => void) | null,
  ): Omit<BindingLoad, 'model'> & { readonly model: Promise<EngineModel>; free(): void }
  renderChatTemplate(
    template: string,
    messages: string,
    tools: string | null,
    variables: string,
    addGenerationPrompt: boolean,
    continueFinalMessage: boolean,
  ): string
  version(): string
}

/** The JavaScript side of each build that there is. */
const ENGINES: Partial<Record<Build, Engine>> = { simd: simd as unknown as Engine }

export const BUILDS = Object.keys(ENGINES) as Build[]

/** Starts the engine from a compiled module. */
export async function startEngine(build: Build, module: WebAssembly.Module): Promise<Engine> {
  const engine = ENGINES[build] as Engine
  await engine.default({ module_or_path: module })
  return engine
}
