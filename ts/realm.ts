/**
 * The way in: finds the engine and loads models.
 */

import type { Binding, BindingBackendInfo, BindingListening, BindingProgress } from './binding.js'
import type { ModelCache } from './cache.js'
import { listen, type Running, runFor } from './callers.js'
import { guarded, guardedAsync, RealmError } from './errors.js'
import { estimate, type MemoryEstimate } from './estimate.js'
import type { LoraUse } from './lora.js'
import { Model } from './model.js'
import {
  type EstimateOptions,
  type LoadOptions,
  type RealmOptions,
  readEstimateOptions,
  readLoadOptions,
  readRealmOptions,
  toBindingLoad,
} from './options.js'
import { modelCache, openBinding, resolveSource } from './platform.js'
import type { LoadProgress } from './reports.js'
import { type ModelSource, unlessAborted } from './sources/model-source.js'

/** A backend and whether it works here. */
export type BackendInfo = BindingBackendInfo

/** Made by `Realm.create`. Holds the settings that its models share. */
export class Realm {
  /**
   * Downloaded models: those in REALM_CACHE, or in `realm` in the user's cache folder; in browsers
   * those of this origin.
   */
  static readonly cache: ModelCache = modelCache()

  /** Downloaded models in this realm's own folder, the option `cacheDirectory`. */
  readonly cache: ModelCache
  readonly #binding: Binding
  readonly #options: ReturnType<typeof readRealmOptions>
  readonly #models = new Set<Model>()
  readonly #listening: BindingListening | undefined
  /** Aborted when the realm is disposed of. */
  readonly #stop = new AbortController()
  readonly #loads = new Set<Promise<Model>>()
  #lastTurn: Promise<void> = Promise.resolve()

  private constructor(binding: Binding, options: ReturnType<typeof readRealmOptions>) {
    this.#binding = binding
    this.#options = options
    this.cache = modelCache(options)
    const { logger } = options
    if (logger !== undefined) this.#listening = guarded(() => binding.listen(logger))
  }

  /**
   * Finds the engine and checks that the wanted backends exist.
   *
   * @throws RealmError BACKEND_UNAVAILABLE  no engine for this platform, no backend of this name,
   *   or one that does not work here and has no fallback
   * @throws RealmError INVALID_ARGUMENT     an option is wrong
   */
  static async create(options?: RealmOptions): Promise<Realm> {
    const checked = readRealmOptions(options)
    const { backend, fallback, device } = checked
    const names = [backend, ...fallback]
    const binding = await guardedAsync(() => openBinding(names, device ?? ''))
    await checkBackends(binding, checked)
    return new Realm(binding, checked)
  }

  /** What this machine offers, and why not for the rest. */
  static async backends(): Promise<BackendInfo[]> {
    return guardedAsync(async () => (await openBinding(['auto'], '')).backends())
  }

  /**
   * What `realm.load` would take of memory for this source with these options, by the file's header
   * alone: no weight is read, copied or uploaded. Backends are started as by a load. A source that
   * is not here yet is downloaded to the cache first, as by a load; adapters are not counted.
   *
   * @throws RealmError  what `Realm.create` and `realm.load` would reject with
   */
  static async estimate(source: ModelSource, options?: EstimateOptions): Promise<MemoryEstimate> {
    const checked = readEstimateOptions(options)
    const names = [checked.backend, ...checked.fallback]
    const binding = await guardedAsync(() => openBinding(names, checked.device ?? ''))
    await checkBackends(binding, checked)
    return estimate(binding, source, checked)
  }

  /**
   * Loads a model on the engine's threads. Weights of a file are mapped, not copied.
   *
   * @throws RealmError MODEL_NOT_FOUND, MODEL_UNREADABLE  the file is not there or cannot be read
   * @throws RealmError MODEL_INVALID      the file contradicts itself or the format
   * @throws RealmError MODEL_UNSUPPORTED  the file needs something that is not there
   * @throws RealmError DOWNLOAD_FAILED    the server cannot be reached or says no
   * @throws RealmError STORAGE_FULL       there is no room for what is downloaded
   * @throws RealmError WRITE_FAILED       what is downloaded cannot be written
   * @throws RealmError OUT_OF_MEMORY      memory could not be had, or `memoryLimit` forbids it
   * @throws RealmError ABORTED            the signal was aborted, or onProgress threw; the cause
   *   says why
   * @throws RealmError DISPOSED           the realm was disposed of
   * @throws RealmError INVALID_ARGUMENT   no such source, or an option is wrong
   */
  async load(source: ModelSource, options?: LoadOptions): Promise<Model> {
    this.#requireLive()
    const checked = readLoadOptions(options)
    const caller = { ...checked, owner: this.#stop.signal }
    const load = runFor(
      'loading',
      caller,
      (context) => this.#load(source, checked, context),
      (model) => model.dispose(),
    )
    this.#loads.add(load)
    try {
      return await load
    } finally {
      this.#loads.delete(load)
    }
  }

  async #load(
    source: ModelSource,
    checked: ReturnType<typeof readLoadOptions>,
    context: Running<LoadProgress>,
  ): Promise<Model> {
    const { onProgress, signal } = context
    const { logger } = this.#options
    const { revalidate } = checked
    const opened = await resolveSource(source, { ...this.#options, ...context, revalidate })
    const onLoad = (progress: BindingProgress) => {
      if (typeof progress === 'number') onProgress?.({ stage: 'load', fraction: progress })
      else if ('level' in progress) logger?.(progress)
      else onProgress?.(progress)
    }
    const model = await this.#inTurn(signal, async () => {
      const settings = toBindingLoad(this.#options, checked, this.#memoryLeft())
      const load = guarded(() => this.#binding.load(opened.source, settings, onLoad))
      const onGone = (gone: Model) => {
        this.#models.delete(gone)
        opened.release()
      }
      listen(signal, () => load.abort())
      const loaded = new Model(await guardedAsync(() => load.model), onGone, this.#options)
      this.#models.add(loaded)
      return loaded
    }).catch((error) => {
      opened.release()
      throw error
    })
    try {
      await loadLora(model, checked, context)
    } catch (error) {
      await model.dispose()
      throw error
    }
    const { architecture, backend, backendReason } = model.info
    logger?.({
      level: 'info',
      message: `loaded ${architecture} model on ${backend}: ${backendReason}`,
    })
    return model
  }

  /**
   * Ends loads under way and disposes of every model that was loaded here; resolves when all of
   * that is over. Any number of calls.
   */
  async dispose(): Promise<void> {
    this.#stop.abort(new RealmError('DISPOSED', 'the realm was disposed of'))
    await Promise.allSettled(this.#loads)
    await Promise.all([...this.#models].map((model) => model.dispose()))
    this.#listening?.stop()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  /** Bytes that models to come may take. */
  #memoryLeft(): number {
    return [...this.#models].reduce(
      (left, model) => left - memoryOf(model),
      this.#options.memoryLimit,
    )
  }

  /**
   * Loads into a limit one after the other: what a load may take is known when those before it
   * have taken what they need.
   */
  async #inTurn<T>(signal: AbortSignal, load: () => Promise<T>): Promise<T> {
    if (this.#options.memoryLimit === Number.POSITIVE_INFINITY) return load()
    const before = this.#lastTurn
    let end = () => {}
    const turn = new Promise<void>((resolve) => {
      end = resolve
    })
    this.#lastTurn = before.then(() => turn)
    try {
      await unlessAborted(before, signal)
      return await load()
    } finally {
      end()
    }
  }

  #requireLive(): void {
    if (this.#stop.signal.aborted) throw this.#stop.signal.reason
  }
}

/** Bytes that count against `memoryLimit`. */
function memoryOf({ info }: Model): number {
  return info.memory.total
}

/** Backends that need not be asked for: asking takes time where drivers are slow. */
const ALWAYS_THERE: readonly string[] = ['auto', 'cpu']

async function checkBackends(
  binding: Binding,
  {
    backend,
    fallback,
    device,
  }: Pick<ReturnType<typeof readRealmOptions>, 'backend' | 'fallback' | 'device'>,
): Promise<void> {
  if ([backend, ...fallback].every((name) => ALWAYS_THERE.includes(name))) return
  const backends = await guardedAsync(() => binding.backends())
  for (const name of [backend, ...fallback]) {
    if (name === 'auto' || backends.some((known) => known.name === name)) continue
    throw new RealmError(
      'BACKEND_UNAVAILABLE',
      `there is no backend "${name}"; expected 'auto' or one of: ` +
        backends.map((known) => known.name).join(', '),
    )
  }
  const wanted = backends.find((known) => known.name === backend)
  if (wanted === undefined || wanted.available || fallback.length > 0) return
  // A device that is named may be one that is not used unasked; loading will tell.
  if (device !== undefined && wanted.devices.length > 0) return
  throw new RealmError(
    'BACKEND_UNAVAILABLE',
    `backend "${backend}" does not work here: ${wanted.description}`,
  )
}

/** Loads the adapters that a model is to run with from the start. */
async function loadLora(
  model: Model,
  { lora, revalidate }: ReturnType<typeof readLoadOptions>,
  { onProgress, signal }: Running<LoadProgress>,
): Promise<void> {
  const uses: LoraUse[] = []
  for (const { item: path, scale } of lora) {
    const adapter = await model.loadAdapter(path, { onProgress, signal, revalidate })
    uses.push({ adapter, scale })
  }
  if (uses.length > 0) model.setLora(uses)
}
