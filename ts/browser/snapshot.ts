/**
 * A model's vocabulary, moved from the worker to the page's thread.
 *
 * Tables of a large vocabulary take longer to build than a page may be busy, so the worker builds
 * them in an instance of its own. The page takes that instance's memory over as it is: the same
 * module with the same memory is the same engine. It may only be asked what does not wait, since
 * promises and callbacks stay where they were made.
 */

import type { BindingLoadOptions } from '../binding.js'
import { type EngineModel, type FileBytes, startEngine } from './engine.js'
import type { Build } from './features.js'

/** What the engine looks up once and keeps, such as the clock. */
const GLOBALS = ['performance', 'self', 'crypto', 'navigator'] as const
type GlobalName = (typeof GLOBALS)[number]

/** An instance with a vocabulary, as bytes. */
export interface Snapshot {
  memory: Uint8Array<ArrayBuffer>
  /** JavaScript values that the engine has had at most. */
  tableLength: number
  /** Those that a page has too: their places and names. */
  globals: [number, GlobalName][]
  /** Where the model is. */
  model: number
}

/** Reads the vocabulary of a file. In the worker. */
export async function takeSnapshot(
  build: Build,
  module: WebAssembly.Module,
  files: FileBytes[],
  options: BindingLoadOptions,
): Promise<Snapshot> {
  const { engine, raw } = await startEngine(build, module)
  const load = engine.load(files, [], [], { ...options, vocabOnly: true }, null)
  const model = await load.model
  load.free()
  return {
    memory: new Uint8Array(raw.memory.buffer).slice(),
    tableLength: raw.__wbindgen_externrefs.length,
    globals: globalsOf(raw.__wbindgen_externrefs),
    model: model.__wbg_ptr,
  }
}

function globalsOf(table: WebAssembly.Table): Snapshot['globals'] {
  const found: Snapshot['globals'] = []
  for (let i = 0; i < table.length; i++) {
    const value: unknown = table.get(i)
    const name = GLOBALS.find((name) => value !== undefined && value === globalThis[name])
    if (name !== undefined) found.push([i, name])
  }
  return found
}

const WASM_PAGE_BYTES = 65_536
/** What is copied in one go, so that the page stays responsive. */
const COPY_BYTES = 8 << 20

/** The model of a snapshot. On the page's thread. */
export async function restoreSnapshot(
  build: Build,
  module: WebAssembly.Module,
  { memory, tableLength, globals, model }: Snapshot,
): Promise<EngineModel> {
  const { engine, raw } = await startEngine(build, module)
  const missing = memory.byteLength - raw.memory.buffer.byteLength
  if (missing > 0) raw.memory.grow(missing / WASM_PAGE_BYTES)
  const target = new Uint8Array(raw.memory.buffer)
  for (let at = 0; at < memory.byteLength; at += COPY_BYTES) {
    if (at > 0) await new Promise((resolve) => setTimeout(resolve))
    target.set(memory.subarray(at, at + COPY_BYTES), at)
  }
  const table = raw.__wbindgen_externrefs
  if (tableLength > table.length) table.grow(tableLength - table.length)
  for (const [i, name] of globals) table.set(i, globalThis[name])
  // Never freed by itself: its memory goes with the instance.
  return Object.assign(Object.create(engine.WebModel.prototype), { __wbg_ptr: model })
}
