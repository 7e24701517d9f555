/**
 * The engine in a browser: a worker for each model, and on the page's thread an instance of its
 * own, without weights, for what does not wait.
 */

import type {
  Binding,
  BindingBackendInfo,
  BindingLoad,
  BindingLoadOptions,
  BindingModel,
  BindingProgress,
  BindingSource,
} from '../binding.js'
import { RealmError } from '../errors.js'
import { backendInfos, orderOf } from './backends.js'
import { BUILDS, type Engine, type EngineModel, type FileBytes, startEngine } from './engine.js'
import { type Build, chooseBuild } from './features.js'
import { BrowserModel } from './model.js'
import type { FileHead } from './protocol.js'
import { RemoteWorker } from './remote-worker.js'
import { compileEngine } from './wasm.js'

export class BrowserBinding implements Binding {
  readonly #build: Build
  readonly #module: WebAssembly.Module
  readonly #engine: Engine

  private constructor(build: Build, module: WebAssembly.Module, engine: Engine) {
    this.#build = build
    this.#module = module
    this.#engine = engine
  }

  /** Fetches and starts the engine. */
  static async open(): Promise<BrowserBinding> {
    const choice = chooseBuild(BUILDS)
    if (choice === null)
      throw new RealmError('BACKEND_UNAVAILABLE', 'this browser has no WebAssembly with SIMD')
    const module = await compileEngine(choice.build)
    return new BrowserBinding(choice.build, module, await startEngine(choice.build, module))
  }

  version(): string {
    return this.#engine.version()
  }

  backends(): Promise<BindingBackendInfo[]> {
    return backendInfos()
  }

  load(
    source: BindingSource,
    options: BindingLoadOptions,
    onProgress: ((progress: BindingProgress) => void) | null,
  ): BindingLoad {
    let worker: RemoteWorker | undefined
    let isAborted = false
    const load = async (): Promise<BindingModel> => {
      const backends = await orderOf([options.backend, ...options.fallback], options.device)
      if (isAborted) throw new RealmError('ABORTED', 'loading was stopped by its signal')
      worker = new RemoteWorker(
        {
          type: 'load',
          build: this.#build,
          module: this.#module,
          source,
          backends,
          options,
        },
        onProgress,
      )
      const { info, heads } = await worker.loaded
      const vocabulary = await this.#vocabulary(heads, options)
      return new BrowserModel(worker, info, vocabulary)
    }
    return {
      model: load(),
      abort: () => {
        isAborted = true
        worker?.abortLoad()
      },
    }
  }

  renderChatTemplate(...args: Parameters<Binding['renderChatTemplate']>): string {
    return this.#engine.renderChatTemplate(...args)
  }

  /** The model's vocabulary in this thread's instance. */
  async #vocabulary(heads: FileHead[], options: BindingLoadOptions): Promise<EngineModel> {
    const load = this.#engine.load(
      heads.map(headSource),
      [],
      [],
      { ...options, vocabOnly: true },
      null,
    )
    try {
      return await load.model
    } finally {
      load.free()
    }
  }
}

/** A file of which only the beginning is read; what is behind it reads as zeros. */
function headSource({ size, bytes }: FileHead): FileBytes {
  return {
    size,
    read: (offset, length) => {
      const out = new Uint8Array(length)
      out.set(bytes.subarray(offset, offset + length))
      return out
    },
    close: () => {},
  }
}
