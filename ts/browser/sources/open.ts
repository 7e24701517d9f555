/**
 * Turns what a page has posted into bytes that can be read at any place.
 */

import type { HostedSource, PostedSource } from '../../binding.js'
import { RealmError } from '../../errors.js'
import { aborted, unreadable } from '../../sources/model-source.js'
import { partOf } from '../../sources/split-file.js'
import { invalid } from '../../validate.js'
import { type ByteSource, blobSource } from './byte-source.js'
import { type SourceOptions, toContext } from './context.js'
import { download, fromHub } from './download.js'

/**
 * Opens a model's file, or each part of a split file, in order. Only in a dedicated worker.
 *
 * @param source  what `resolveSource` of the page has checked
 * @throws RealmError DOWNLOAD_FAILED   the server cannot be reached, says no, or sends another file
 * @throws RealmError STORAGE_FULL      the browser does not grant the room
 * @throws RealmError MODEL_UNREADABLE  a stream fails
 * @throws RealmError ABORTED           the signal was aborted
 * @throws RealmError INVALID_ARGUMENT  a stream of something else than bytes
 */
export async function openSource(
  source: PostedSource,
  options: SourceOptions = {},
): Promise<ByteSource[]> {
  const { signal } = options
  if (signal?.aborted) throw aborted(signal.reason)
  if ('address' in source) return openAddress(source, options)
  if (source instanceof ReadableStream) return [blobSource(await toBlob(source, options))]
  return inOrder(Array.isArray(source) ? source : [source]).map((file) => blobSource(file))
}

function openAddress(source: HostedSource, options: SourceOptions): Promise<ByteSource[]> {
  const { address, cacheKey } = source
  const context = toContext(source, options)
  if (address.startsWith('hf:')) return fromHub(address, context)
  return download({ url: new URL(address), cacheKey }, context)
}

/** The bytes of a stream, kept by the browser: they do not pass through this worker's heap at once. */
async function toBlob(
  stream: ReadableStream<unknown>,
  { signal, onProgress }: SourceOptions,
): Promise<Blob> {
  let receivedBytes = 0
  const count = new TransformStream<unknown, Uint8Array<ArrayBuffer>>({
    transform(part, controller) {
      if (!(part instanceof Uint8Array))
        throw invalid('chunk of the model source', 'a Uint8Array', part)
      receivedBytes += part.byteLength
      onProgress?.({ stage: 'download', fraction: 0, receivedBytes })
      controller.enqueue(part as Uint8Array<ArrayBuffer>)
    },
  })
  // Errors pass through the pipe, so that of the pipe is the one that tells why.
  const piped = stream.pipeTo(count.writable, signal === undefined ? {} : { signal })
  const [result, end] = await Promise.allSettled([new Response(count.readable).blob(), piped])
  if (signal?.aborted) throw aborted(signal.reason)
  if (end.status === 'rejected') {
    if (end.reason instanceof RealmError) throw end.reason
    throw unreadable('the stream', end.reason)
  }
  if (result.status === 'rejected') throw unreadable('the stream', result.reason)
  return result.value
}

/** Parts by their numbers where their names say them: people choose files in any order. */
function inOrder(files: Blob[]): Blob[] {
  const numbers = files.map((file) =>
    file instanceof File ? partOf(file.name)?.number : undefined,
  )
  if (numbers.includes(undefined)) return files
  const numberOf = new Map(files.map((file, i) => [file, numbers[i] ?? 0]))
  return files.toSorted((a, b) => (numberOf.get(a) ?? 0) - (numberOf.get(b) ?? 0))
}
