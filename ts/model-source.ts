/**
 * What a model may be loaded from, and what fetching it needs to know: the same in Node and in
 * browsers.
 */

import { RealmError } from './errors.js'
import type { LoadProgress } from './reports.js'

/**
 * - a path or `file:` URL (Node only), an `http(s)` URL, or `hf:owner/repo[/file][@revision]`; of
 *   a split file the first part is named, the others are found beside it
 * - the bytes of the file, or of each part of a split file
 * - a Blob or File, or one for each part; a handle with `getFile()`; a ReadableStream of bytes
 */
export type ModelSource =
  | string
  | URL
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
