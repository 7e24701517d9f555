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
import { type Engine, type EngineModel, type FileBytes, startEngine } from './engine.js'
import { type Build, chooseBuild } from './features.js'
import { BrowserModel } from './model.js'
import type { BackendWish, FileHead } from './protocol.js'
import { RemoteWorker } from './remote-worker.js'
import { compileEngine } from './wasm.js'

export class BrowserBinding implements Binding {
  readonly #engine: Engine
  readonly #modules: Map<Build, Promise<WebAssembly.Module>>

  private constructor(build: Build, engine: Engine, module: Promise<WebAssembly.Module>) {
    this.#engine = engine
    this.#modules = new Map([[build, module]])
  }

  /** Fetches and starts the engine: the build that models are most likely to run on. */
  static async open(): Promise<BrowserBinding> {
    const build = buildFor(await orderOf(['auto'], ''))
    const module = compileEngine(build)
    return new BrowserBinding(build, await startEngine(build, await module), module)
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
      const build = buildFor(backends)
      const module = await this.#module(build)
      if (isAborted) throw new RealmError('ABORTED', 'loading was stopped by its signal')
      const request = { type: 'load' as const, build, module, source, backends, options }
      worker = new RemoteWorker(request, onProgress)
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

  #module(build: Build): Promise<WebAssembly.Module> {
    const known = this.#modules.get(build)
    if (known !== undefined) return known
    const module = compileEngine(build)
    // The network may be back the next time.
    module.catch(() => this.#modules.delete(build))
    this.#modules.set(build, module)
    return module
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

/** The build to run one of these backends. */
function buildFor(backends: BackendWish[]): Build {
  const withWebgpu = backends.some(({ name, refusal }) => name === 'webgpu' && refusal === '')
  const choice = chooseBuild(withWebgpu)
  if (choice !== null) return choice.build
  throw new RealmError('BACKEND_UNAVAILABLE', 'this browser has no WebAssembly with SIMD')
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
