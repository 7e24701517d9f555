/**
 * What a model may be loaded from, and what fetching it needs to know: the same in Node and in
 * browsers.
 */

import { messageOf, RealmError } from '../errors.js'
import type { LoadProgress, LogEntry } from '../reports.js'
import { invalid } from '../validate.js'

/**
 * A model on a server that needs more than its address. Headers go to the server that is named and
 * to nobody that it redirects to; in browsers, which follow redirections by themselves, headers
 * other than `authorization` do.
 */
export interface RemoteSource {
  /** An `http(s)` address. */
  url: string | URL
  /**
   * What the download is kept under in place of its address: for addresses that change while the
   * file stays the same, such as signed ones. Default: the address.
   */
  cacheKey?: string | undefined
  /** Headers of every request for it. Never stored. */
  headers?: Readonly<Record<string, string>> | undefined
}

/**
 * - a path or `file:` URL (Node only), an `http(s)` URL, or `hf:owner/repo[/file][@revision]`; of
 *   a split file the first part is named, the others are found beside it
 * - `{ url, cacheKey, headers }` for a server that needs more than its address
 * - the bytes of the file, or of each part of a split file
 * - a Blob or File, or one for each part; a handle with `getFile()`; a ReadableStream of bytes
 */
export type ModelSource =
  | string
  | URL
  | RemoteSource
  | Uint8Array
  | ArrayBuffer
  | readonly (Uint8Array | Blob)[]
  | Blob
  | { getFile(): Promise<Blob> }
  | ReadableStream<Uint8Array>

/** What fetching a source needs to know, wherever it runs. */
export interface FetchContext {
  onProgress: ((progress: LoadProgress) => void) | undefined
  signal: AbortSignal | undefined
  /** Milliseconds for which a server's word on what is stored is good. Default 0. */
  revalidate?: number | undefined
}

/** Settings of a realm that its sources are opened with. */
export interface SourceSettings {
  cacheDirectory: string | undefined
  hubEndpoint: string | undefined
  hubToken: string | undefined
  logger: ((entry: LogEntry) => void) | undefined
}

/** A source as the engine takes it. */
export interface OpenedSource<S> {
  source: S
  /** Lets go of a stored file, which may then be deleted. Any number of calls. */
  release: () => void
}

/** What is waited for, unless the signal comes first. */
export async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return promise
  let onAbort = () => {}
  const isAborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(aborted(signal.reason))
  })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.race([promise, isAborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/**
 * The file of a handle.
 * @throws RealmError MODEL_UNREADABLE  the handle does not give it
 * @throws RealmError INVALID_ARGUMENT  what it gives is no Blob
 * @throws RealmError ABORTED           the signal came first
 */
export async function fileOf(
  handle: { getFile(): Promise<Blob> },
  signal: AbortSignal | undefined,
): Promise<Blob> {
  let file: Blob
  try {
    file = await unlessAborted((async () => handle.getFile())(), signal)
  } catch (error) {
    throw error instanceof RealmError ? error : unreadable('the file handle', error)
  }
  if (file instanceof Blob) return file
  throw invalid('model source.getFile()', 'a Blob or File', file)
}

/** The error of something that should have given bytes. */
export function unreadable(what: string, error: unknown): RealmError {
  const message = `${what} failed: ${messageOf(error)}`
  return new RealmError('MODEL_UNREADABLE', message, { cause: error })
}

/** The error of a load that its signal stopped. */
export function aborted(cause?: unknown): RealmError {
  return new RealmError('ABORTED', 'loading was stopped by its signal', { cause })
}

/** Whether something is a file handle, or behaves like one. */
export function hasGetFile(source: unknown): source is { getFile(): Promise<Blob> } {
  return (
    typeof source === 'object' &&
    source !== null &&
    typeof (source as { getFile?: unknown }).getFile === 'function'
  )
}
