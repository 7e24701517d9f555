/**
 * Turns whatever a model may be loaded from into bytes that can be read at any place.
 */

import type { HostedSource } from '../../binding.js'
import { RealmError } from '../../errors.js'
import { aborted, fileOf, hasGetFile, unreadable } from '../../model-source.js'
import { partOf } from '../../split-file.js'
import { parseUrl } from '../../url.js'
import { invalid } from '../../validate.js'
import { type ByteSource, blobSource, memorySource } from './byte-source.js'
import { type SourceOptions, toContext } from './context.js'
import { download, fromHub } from './download.js'

/**
 * Opens a model's file, or each part of a split file, in order. Only in a dedicated worker.
 *
 * @param source  see ModelSource; addresses may be relative to the worker's
 * @throws RealmError DOWNLOAD_FAILED   the server cannot be reached, says no, or sends another file
 * @throws RealmError STORAGE_FULL      the browser does not grant the room
 * @throws RealmError MODEL_UNREADABLE  a stream fails
 * @throws RealmError ABORTED           the signal was aborted
 * @throws RealmError INVALID_ARGUMENT  no known kind of source
 */
export async function openSource(
  source: unknown,
  options: SourceOptions = {},
): Promise<ByteSource[]> {
  const { signal } = options
  if (isHosted(source)) {
    const { address, cacheKey, ...hosted } = source
    return openAddress(address, cacheKey, { ...options, ...hosted })
  }
  if (signal?.aborted) throw aborted(signal.reason)
  if (source instanceof URL || (typeof source === 'string' && source !== ''))
    return openAddress(String(source), undefined, options)
  if (source instanceof ReadableStream) return [blobSource(await toBlob(source, options))]
  if (hasGetFile(source)) return [blobSource(await fileOf(source, signal))]
  const files = Array.isArray(source) ? source : [source]
  if (files.length > 0 && files.every(isFile)) return inOrder(files).map(openFile)
  throw invalid(
    'model source',
    'a URL, hf: name, Uint8Array, Blob, file handle or ReadableStream',
    source,
  )
}

function isHosted(source: unknown): source is HostedSource {
  return typeof (source as Partial<HostedSource> | null)?.address === 'string'
}

function openAddress(
  address: string,
  cacheKey: string | undefined,
  options: SourceOptions,
): Promise<ByteSource[]> {
  if (options.signal?.aborted) throw aborted(options.signal.reason)
  if (address.startsWith('hf:')) return fromHub(address, toContext(options))
  const url = parseUrl(address, self.location.href)
  return download({ url, cacheKey }, toContext(options))
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

type InMemory = Uint8Array | ArrayBuffer | Blob

function isFile(value: unknown): value is InMemory {
  return value instanceof Uint8Array || value instanceof ArrayBuffer || value instanceof Blob
}

function openFile(file: InMemory): ByteSource {
  if (file instanceof Blob) return blobSource(file)
  return memorySource(file instanceof Uint8Array ? file : new Uint8Array(file))
}

/** Parts by their numbers where their names say them: people choose files in any order. */
function inOrder(files: InMemory[]): InMemory[] {
  const numbers = files.map((file) =>
    file instanceof File ? partOf(file.name)?.number : undefined,
  )
  if (numbers.includes(undefined)) return files
  const numberOf = new Map(files.map((file, i) => [file, numbers[i] ?? 0]))
  return files.toSorted((a, b) => (numberOf.get(a) ?? 0) - (numberOf.get(b) ?? 0))
}
