/**
 * The worker of one model: opens its source, loads it, and answers the page. The engine runs
 * here; between two of its steps messages get their turn.
 */

import type { BindingEvent, PostedSource } from '../binding.js'
import { RealmError } from '../errors.js'
import { type EngineModel, type EngineRequest, type FileBytes, startEngine } from './engine.js'
import type { Build } from './features.js'
import {
  type BackendWish,
  type EstimateRequest,
  type LoadRequest,
  type Reply,
  type Request,
  toPosted,
} from './protocol.js'
import { takeSnapshot } from './snapshot.js'
import { type ByteSource, openSource } from './sources/index.js'
import { lendThread, startThreads } from './threads.js'
import { compileEngine } from './wasm.js'

declare const self: DedicatedWorkerGlobalScope & { realmPause?: () => Promise<void> }

let model: EngineModel | undefined
const loading = new AbortController()
/** Requests in progress by their number. */
const requests = new Map<number, { abort(): void; allow?(tokens: number): void; free(): void }>()
/** The engine's numbers of sequences by the page's. */
const sequences = new Map<number, number>()

function post(reply: Reply, transfer: Transferable[] = []): void {
  self.postMessage(reply, transfer)
}

self.realmPause = turns()

/** Resolves in a later task; a timer would wait for milliseconds. */
function turns(): () => Promise<void> {
  const { port1, port2 } = new MessageChannel()
  const waiting: (() => void)[] = []
  port2.onmessage = () => waiting.shift()?.()
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve)
      port1.postMessage(null)
    })
}

self.onmessage = ({ data }: MessageEvent<Request>) => {
  if (data.type === 'load') load(data)
  else if (data.type === 'estimate') estimate(data)
  else if (data.type === 'lend') lendThread(data)
  else if (data.type === 'abort-load') loading.abort()
  else if (data.type === 'call') answer(data)
  else if (data.type === 'generate') generate(data)
  else if (data.type === 'allow') requests.get(data.id)?.allow?.(data.tokens)
  else requests.get(data.id)?.abort()
}

// Whoever asked would wait for ever: what cannot be read does not say which call it was.
self.onmessageerror = () => crashed(new Error('a request of the page could not be read'))

// The engine cannot go on after a panic: it has no way to unwind.
self.onerror = (event) => crashed(event instanceof ErrorEvent ? event.error : event)
self.onunhandledrejection = ({ reason }) => crashed(reason)

function crashed(reason: unknown): void {
  const { message } = toPosted(reason)
  post({ type: 'crashed', error: { code: 'INTERNAL', message: `the engine stopped: ${message}` } })
}

async function load(request: LoadRequest): Promise<void> {
  await withSource(request, async (files) => {
    const loaded = await firstThatWorks(request, async (build, module, backends) => {
      const model = await loadOn(build, module, files, backends, request.options)
      return { build, module, model }
    })
    model = loaded.model
    const { build, module } = loaded
    const vocabulary = await takeSnapshot(build, module, headsOf(model, files), request.options)
    const info = model.info()
    post({ type: 'loaded', info, build, module, vocabulary }, [vocabulary.memory.buffer])
  })
}

async function estimate(request: EstimateRequest): Promise<void> {
  await withSource(request, async (files) => {
    const estimate = await firstThatWorks(request, async (build, module, backends) => {
      const { engine } = await startInstance(build, module, request.options)
      return engine.estimate(
        lend(files, () => false),
        ...namesOf(backends),
        request.options,
      )
    })
    for (const file of files) file.close()
    post({ type: 'estimated', estimate })
  })
}

/** Opens the source of a request for `use`, and answers what goes wrong. */
async function withSource(
  request: LoadRequest | EstimateRequest,
  use: (files: ByteSource[]) => Promise<void>,
): Promise<void> {
  let files: ByteSource[] = []
  try {
    files = await openSource(request.source, {
      signal: loading.signal,
      onProgress: (progress) => post({ type: 'progress', progress }),
      logger: (entry) => post({ type: 'progress', progress: entry }),
    })
    await use(files)
  } catch (error) {
    for (const file of files) file.close()
    const posted = loading.signal.aborted
      ? new RealmError('ABORTED', 'loading was stopped by its signal')
      : error
    post({ type: 'load-failed', error: toPosted(posted) })
  }
}

/** What `run` gives on the first build that takes the model, with what the ones before had against it. */
async function firstThatWorks<T>(
  { attempts, module: first }: LoadRequest | EstimateRequest,
  run: (build: Build, module: WebAssembly.Module, backends: BackendWish[]) => Promise<T>,
): Promise<T> {
  const refused: BackendWish[] = []
  for (const [i, { build, backends }] of attempts.entries()) {
    loading.signal.throwIfAborted()
    const module = i === 0 ? first : await compileEngine(build)
    try {
      return await run(build, module, [...refused, ...backends])
    } catch (error) {
      if (i === attempts.length - 1 || loading.signal.aborted) throw error
      const { message } = toPosted(error)
      refused.push(...backends.map(({ name, refusal }) => ({ name, refusal: refusal || message })))
    }
  }
  throw new RealmError('INTERNAL', 'there is nothing to load the model with')
}

async function startInstance(
  build: Build,
  module: WebAssembly.Module,
  { threads }: LoadRequest['options'],
) {
  const instance = await startEngine(build, module)
  if (build === 'threads') await startThreads(instance, module, threads)
  return instance
}

/** The files as the engine reads them; it closes them when they are its own. */
function lend(files: FileBytes[], areIts: () => boolean): FileBytes[] {
  return files.map((file) => ({
    size: file.size,
    read: (offset: number, length: number) => file.read(offset, length),
    close: () => {
      if (areIts()) file.close()
    },
  }))
}

/** Backends as the engine takes them: names, and what speaks against each. */
function namesOf(backends: BackendWish[]): [string[], string[]] {
  return [backends.map(({ name }) => name), backends.map(({ refusal }) => refusal)]
}

async function loadOn(
  build: Build,
  module: WebAssembly.Module,
  files: FileBytes[],
  backends: BackendWish[],
  options: LoadRequest['options'],
): Promise<EngineModel> {
  const instance = await startInstance(build, module, options)
  instance.engine.listen((level, message) =>
    post({ type: 'progress', progress: { level, message } }),
  )
  // Closed with the model; an attempt that fails leaves them to the next one.
  let isLoaded = false
  const lent = lend(files, () => isLoaded)
  const load = instance.engine.load(lent, ...namesOf(backends), options, (progress) =>
    post({ type: 'progress', progress }),
  )
  const abort = () => load.abort()
  loading.signal.addEventListener('abort', abort)
  try {
    const model = await load.model
    isLoaded = true
    return model
  } finally {
    loading.signal.removeEventListener('abort', abort)
    load.free()
  }
}

/** Files of which only the beginning is read; what is behind it reads as zeros. */
function headsOf(model: EngineModel, files: ByteSource[]): FileBytes[] {
  const lengths = model.headerBytes()
  return files.map(({ size, read }, i) => ({
    size,
    read: (offset, length) => {
      const out = new Uint8Array(length)
      const end = Math.min(offset + length, lengths[i] ?? 0)
      if (end > offset) out.set(read(offset, end - offset))
      return out
    },
    close: () => {},
  }))
}

function live(): EngineModel {
  if (model === undefined) throw new RealmError('DISPOSED', 'the model was disposed of')
  return model
}

async function answer({ id, method, args }: Extract<Request, { type: 'call' }>): Promise<void> {
  try {
    const call = CALLS[method] as (...args: unknown[]) => unknown
    const made = call(...args)
    const value = await (isRequest(made) ? outcome(id, made) : made)
    post({ type: 'settled', id, value }, buffersOf(value))
  } catch (error) {
    post({ type: 'failed', id, error: toPosted(error) })
  }
}

function isRequest(made: unknown): made is EngineRequest<unknown> {
  return typeof made === 'object' && made !== null && 'result' in made && 'abort' in made
}

/** What a request comes to, which can be aborted by its number meanwhile. */
async function outcome(id: number, request: EngineRequest<unknown>): Promise<unknown> {
  requests.set(id, request)
  try {
    return await request.result
  } finally {
    release(id)
  }
}

function release(id: number): void {
  requests.get(id)?.free()
  requests.delete(id)
}

const sequence = (id: number) => sequences.get(id) ?? id

const CALLS = {
  openSequence: (id: number) => void sequences.set(id, live().openSequence()),
  forkSequence: (from: number, id: number) =>
    void sequences.set(id, live().forkSequence(sequence(from))),
  closeSequence: (id: number) => live().closeSequence(sequence(id)),
  dropLayerSequence: (id: number) => live().dropLayerSequence(id),
  embed: (...args: Parameters<EngineModel['embed']>) => live().embed(...args),
  embedTokens: (ids: Uint32Array, position: number) => live().embedTokens(ids, position),
  forwardLayer: (...args: Parameters<EngineModel['forwardLayer']>) => live().forwardLayer(...args),
  computeLogits: (hidden: Float32Array) => live().computeLogits(hidden),
  rank: (query: string, documents: string[]) => live().rank(query, documents),
  tensor: (name: string) => live().tensor(name),
  setLora: (lora: Parameters<EngineModel['setLora']>[0]) => live().setLora(lora),
  removeAdapter: (id: number) => live().removeAdapter(id),
  async loadAdapter(source: PostedSource) {
    const files = await openSource(source)
    try {
      return await live().loadAdapter(files.map((file) => file.read(0, file.size)))
    } finally {
      for (const file of files) file.close()
    }
  },
  async dispose() {
    const disposed = live()
    model = undefined
    await disposed.dispose()
    disposed.free()
  },
}

/** What can be handed over instead of being copied. */
function buffersOf(value: unknown): Transferable[] {
  const values = Array.isArray(value) ? value : [value]
  return values.flatMap((item) => {
    const array = item instanceof Float32Array ? item : (item as { data?: unknown } | null)?.data
    return array instanceof Float32Array ? [array.buffer as ArrayBuffer] : []
  })
}

function generate({ id, prompt, options }: Extract<Request, { type: 'generate' }>): void {
  const onEvent = (event: BindingEvent) => {
    const isOver = event.type !== 'chunk'
    const posted =
      event.type === 'error' ? { type: event.type, error: toPosted(event.error) } : event
    post({ type: 'event', id, event: posted })
    if (!isOver) return
    release(id)
  }
  try {
    const settings = {
      ...options,
      sequence: options.sequence === null ? null : sequence(options.sequence),
    }
    requests.set(id, live().generate(prompt, settings, onEvent))
  } catch (error) {
    onEvent({ type: 'error', error: error as Error & { code: string } })
  }
}
