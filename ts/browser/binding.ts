/**
 * The engine in a browser: a worker for each model, and on the page's thread what does not wait.
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
import { type Engine, startEngine } from './engine.js'
import { type Build, chooseBuild } from './features.js'
import { BrowserModel } from './model.js'
import type { BackendWish } from './protocol.js'
import { RemoteWorker } from './remote-worker.js'
import { restoreSnapshot } from './snapshot.js'
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
    const { engine } = await startEngine(build, await module)
    return new BrowserBinding(build, engine, module)
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
      const { info, vocabulary } = await worker.loaded
      return new BrowserModel(worker, info, await restoreSnapshot(build, module, vocabulary))
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
}

/** The build to run one of these backends. */
function buildFor(backends: BackendWish[]): Build {
  const withWebgpu = backends.some(({ name, refusal }) => name === 'webgpu' && refusal === '')
  const choice = chooseBuild(withWebgpu)
  if (choice !== null) return choice.build
  throw new RealmError('BACKEND_UNAVAILABLE', 'this browser has no WebAssembly with SIMD')
}
