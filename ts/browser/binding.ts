/**
 * The engine in a browser: a worker for each model, and on the page's thread what does not wait.
 */

import type {
  Binding,
  BindingBackendInfo,
  BindingEstimate,
  BindingEstimation,
  BindingListening,
  BindingLoad,
  BindingLoadOptions,
  BindingModel,
  BindingProgress,
  PostedSource,
} from '../binding.js'
import { RealmError } from '../errors.js'
import { aborted } from '../sources/model-source.js'
import { backendInfos, orderOf } from './backends.js'
import { type Engine, startEngine } from './engine.js'
import { type Build, chooseBuild } from './features.js'
import { BrowserModel } from './model.js'
import type { Attempt, BackendWish } from './protocol.js'
import { DISPOSED, RemoteWorker } from './remote-worker.js'
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
  static async open(names: string[], device: string): Promise<BrowserBinding> {
    const [{ build }] = attemptsAt(await orderOf(names, device))
    const module = compileEngine(build)
    const { engine } = await startEngine(build, await module)
    return new BrowserBinding(build, engine, module)
  }

  version(): string {
    return this.#engine.version()
  }

  /** What models have to say comes with the progress of their loads. */
  listen(): BindingListening {
    return { stop: () => {} }
  }

  backends(): Promise<BindingBackendInfo[]> {
    return backendInfos()
  }

  load(
    source: PostedSource,
    options: BindingLoadOptions,
    onProgress: ((progress: BindingProgress) => void) | null,
  ): BindingLoad {
    let worker: RemoteWorker | undefined
    let isAborted = false
    const load = async (): Promise<BindingModel> => {
      const request = await this.#request(source, options)
      if (isAborted) throw aborted()
      const loading = new RemoteWorker({ type: 'load', ...request }, onProgress)
      worker = loading
      try {
        const { info, build, module, vocabulary } = await loading.loaded
        this.#modules.set(build, Promise.resolve(module))
        const restored = await restoreSnapshot(build, module, vocabulary)
        // The worker, which was done already, did not hear of it.
        if (isAborted) throw aborted()
        return new BrowserModel(loading, info, restored)
      } catch (error) {
        loading.end(DISPOSED)
        throw error
      }
    }
    return {
      model: load(),
      abort: () => {
        isAborted = true
        worker?.abortLoad()
      },
    }
  }

  estimate(
    source: PostedSource,
    options: BindingLoadOptions,
    onProgress: ((progress: BindingProgress) => void) | null,
  ): BindingEstimation {
    let worker: RemoteWorker | undefined
    let isAborted = false
    const estimate = async (): Promise<BindingEstimate> => {
      const request = await this.#request(source, options)
      if (isAborted) throw aborted()
      worker = new RemoteWorker({ type: 'estimate', ...request }, onProgress)
      try {
        return (await worker.estimated).estimate
      } finally {
        worker.end(DISPOSED)
      }
    }
    return {
      estimate: estimate(),
      abort: () => {
        isAborted = true
        worker?.abortLoad()
      },
    }
  }

  /** What a worker is told about a model: the builds to try it on, and where it comes from. */
  async #request(source: PostedSource, options: BindingLoadOptions) {
    const backends = await orderOf([options.backend, ...options.fallback], options.device)
    const attempts = attemptsAt(backends)
    return { attempts, module: await this.#module(attempts[0].build), source, options }
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

/** The builds to run these backends, in order. What is refused already needs none of its own. */
function attemptsAt(backends: BackendWish[]): [Attempt, ...Attempt[]] {
  const choice = chooseBuild()
  if (choice === null)
    throw new RealmError('BACKEND_UNAVAILABLE', 'this browser has no WebAssembly with SIMD')
  const attempts: Attempt[] = []
  const refused: BackendWish[] = []
  for (const wish of backends) {
    const build = wish.name === 'webgpu' ? 'webgpu' : choice.build
    const last = attempts.at(-1)
    if (wish.refusal !== '') refused.push(wish)
    else if (last?.build === build) last.backends.push(...refused.splice(0), wish)
    else attempts.push({ build, backends: [...refused.splice(0), wish] })
  }
  const [first, ...others] = attempts
  if (first === undefined) return [{ build: choice.build, backends: refused }]
  attempts.at(-1)?.backends.push(...refused)
  return [first, ...others]
}
