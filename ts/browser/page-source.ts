/**
 * Checks, in the page, what a model is to be loaded from, and makes it fit to be posted to the
 * worker that opens it.
 */

import type { PostedSource } from '../binding.js'
import { RealmError } from '../errors.js'
import { parseHubName } from '../sources/hub.js'
import {
  aborted,
  type FetchContext,
  fileOf,
  hasGetFile,
  type OpenedSource,
  type SourceSettings,
  unlessAborted,
  unreadable,
} from '../sources/model-source.js'
import { isRemote, readRemote } from '../sources/remote-source.js'
import { parseUrl } from '../sources/url.js'
import { invalid, reading } from '../validate.js'

/** What preparing a source needs to know; the rest is the worker's. */
interface PageFetchContext extends FetchContext, SourceSettings {}

/** Bytes of an array that are copied in one go, so that the page stays responsive. */
const COPY_BYTES = 4 << 20

/**
 * @throws RealmError MODEL_UNREADABLE  a file handle fails
 * @throws RealmError ABORTED           the signal was aborted
 * @throws RealmError INVALID_ARGUMENT  no known kind of source
 */
export async function resolveSource(
  source: unknown,
  context: PageFetchContext,
): Promise<OpenedSource<PostedSource>> {
  const { signal } = context
  if (signal?.aborted) throw aborted(signal.reason)
  // The worker holds what is stored, until it ends.
  return { source: await reading('model source', () => toPosted(source, context)), release() {} }
}

function toPosted(
  source: unknown,
  { signal, hubEndpoint, hubToken, revalidate }: PageFetchContext,
): PostedSource | Promise<PostedSource> {
  const settings = { hubEndpoint, hubToken, revalidate }
  if (source instanceof URL || (typeof source === 'string' && source !== '')) {
    const address = addressOf(String(source))
    return { address, cacheKey: undefined, headers: undefined, ...settings }
  }
  if (isRemote(source)) {
    // A worker has a base of its own.
    const { url, ...rest } = readRemote(source, globalThis.location.href)
    return { address: url.href, ...rest, ...settings }
  }
  if (source instanceof Blob) return source
  if (source instanceof Uint8Array) return toBlob(source)
  if (source instanceof ArrayBuffer) return toBlob(new Uint8Array(source))
  if (Array.isArray(source) && source.length > 0) return Promise.all(Array.from(source, partOf))
  if (source instanceof ReadableStream) return streamOf(source, signal)
  if (hasGetFile(source)) return fileOf(source, signal)
  throw invalid(
    'model source',
    'a URL, hf: name, { url }, Uint8Array, Blob, file handle or ReadableStream',
    source,
  )
}

function addressOf(source: string): string {
  if (!source.startsWith('hf:')) return parseUrl(source, globalThis.location.href).href
  parseHubName(source)
  return source
}

function partOf(part: unknown, i: number): Blob | Promise<Blob> {
  if (part instanceof Blob) return part
  if (part instanceof Uint8Array) return toBlob(part)
  throw invalid(`model source[${i}]`, 'a Uint8Array or Blob', part)
}

function streamOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal | undefined,
): PostedSource | Promise<PostedSource> {
  if (stream.locked) throw invalid('model source', 'a stream that is not locked', stream)
  if (canTransferStreams()) return stream
  return unlessAborted(new Response(stream).blob(), signal).catch((error) => {
    throw error instanceof RealmError ? error : unreadable('the stream', error)
  })
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

async function toBlob(bytes: Uint8Array): Promise<Blob> {
  const parts: Blob[] = []
  for (let at = 0; at < bytes.byteLength; at += COPY_BYTES) {
    parts.push(new Blob([bytes.slice(at, at + COPY_BYTES)]))
    if (at > 0) await new Promise((resolve) => setTimeout(resolve))
  }
  return new Blob(parts)
}
