/**
 * The browser's side of `platform.ts`: it takes its place in the browser build.
 */

import type { Binding, BindingSource } from './binding.js'
import { BrowserBinding } from './browser/binding.js'
import { browserCache } from './browser/sources/cache.js'
import type { ModelCache } from './cache.js'
import { RealmError } from './errors.js'
import {
  aborted,
  type FetchContext,
  fileOf,
  hasGetFile,
  type OpenedSource,
  type SourceSettings,
  unlessAborted,
  unreadable,
} from './model-source.js'
import { isRemote, readRemote } from './remote-source.js'

declare const REALM_VERSION: string

/** This package's version. */
export const version: string = REALM_VERSION

let opening: Promise<BrowserBinding> | undefined
let opened: BrowserBinding | undefined

/**
 * The engine, ready for calls that do not wait. Fetched on the first call, in the build for the
 * first of these backends that works here.
 */
export async function openBinding(backends: string[], device: string): Promise<Binding> {
  opening ??= BrowserBinding.open(backends, device)
  try {
    opened = await opening
  } catch (error) {
    // The network may be back the next time.
    opening = undefined
    throw error
  }
  return opened
}

/**
 * The engine, at once.
 * @throws RealmError BACKEND_UNAVAILABLE  before `Realm.create` has fetched it
 */
export function binding(): Binding {
  if (opened !== undefined) return opened
  throw new RealmError(
    'BACKEND_UNAVAILABLE',
    'the engine has not been fetched yet; await Realm.create() first',
  )
}

/** There is one cache per origin. */
export function modelCache(settings: Partial<SourceSettings> = {}): ModelCache {
  return browserCache(settings.hubEndpoint)
}

/** What preparing a source needs to know; the rest is the worker's. */
interface PageFetchContext extends FetchContext, SourceSettings {}

/** Bytes of an array that are copied in one go, so that the page stays responsive. */
const COPY_BYTES = 4 << 20

/**
 * Makes a source fit to be posted to the worker, which opens it. Addresses become absolute: a
 * worker has a base of its own.
 */
export async function resolveSource(
  source: unknown,
  context: PageFetchContext,
): Promise<OpenedSource<BindingSource>> {
  const { signal } = context
  if (signal?.aborted) throw aborted(signal.reason)
  // The worker holds what is stored, until it ends.
  return { source: await toPosted(source, context), release: () => {} }
}

async function toPosted(
  source: unknown,
  { signal, hubEndpoint, hubToken, revalidate }: PageFetchContext,
): Promise<BindingSource> {
  const settings = { hubEndpoint, hubToken, revalidate }
  if (source instanceof URL || typeof source === 'string') {
    const address = absolute(String(source))
    return { address, cacheKey: undefined, headers: undefined, ...settings }
  }
  if (isRemote(source)) {
    const { url, ...rest } = readRemote(source, globalThis.location.href)
    return { address: url.href, ...rest, ...settings }
  }
  if (hasGetFile(source)) return fileOf(source, signal)
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) return toBlob(source)
  if (Array.isArray(source))
    return Promise.all(source.map((part) => (part instanceof Uint8Array ? toBlob(part) : part)))
  if (source instanceof ReadableStream) {
    if (source.locked) throw unreadable('the stream', 'somebody else reads it')
    if (canTransferStreams()) return source
    const blob = unlessAborted(new Response(source).blob(), signal)
    return blob.catch((error) => {
      throw error instanceof RealmError ? error : unreadable('the stream', error)
    })
  }
  return source as BindingSource
}

/** Not every browser can hand a stream to a worker. */
function canTransferStreams(): boolean {
  const stream = new ReadableStream()
  try {
    structuredClone(stream, { transfer: [stream] })
    return true
  } catch {
    return false
  }
}

function absolute(address: string): string {
  const { href } = globalThis.location
  const isRelative = !address.startsWith('hf:') && URL.canParse(address, href)
  return isRelative ? new URL(address, href).href : address
}

async function toBlob(source: ArrayBuffer | Uint8Array): Promise<Blob> {
  const bytes = source instanceof Uint8Array ? source : new Uint8Array(source)
  const parts: Blob[] = []
  for (let at = 0; at < bytes.byteLength; at += COPY_BYTES) {
    parts.push(new Blob([bytes.slice(at, at + COPY_BYTES)]))
    if (at > 0) await new Promise((resolve) => setTimeout(resolve))
  }
  return new Blob(parts)
}
