/**
 * Turns whatever a model may be loaded from into a path or bytes for the engine.
 */

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultCache, hubOfEnvironment } from './disk-cache.js'
import { type DiskFolder, DiskStorage, folderName } from './disk-storage.js'
import type { DownloadContext } from './download/context.js'
import { Currency } from './download/currency.js'
import { download, type Opener, type Wanted } from './download/download.js'
import { findOnHub } from './download/find-on-hub.js'
import { DEFAULT_POLICY, type FetchPolicy } from './download/requests.js'
import { RealmError } from './errors.js'
import { aborted, type FetchContext, hasGetFile, type SourceSettings } from './model-source.js'
import { nodeNetwork } from './network.js'
import type { LogEntry } from './reports.js'
import { invalid } from './validate.js'

/** What a source is turned into for the engine. */
export type ResolvedSource = string | Uint8Array | Uint8Array[]

/** What fetching a source needs to know. */
export interface NodeFetchContext extends FetchContext, SourceSettings {
  logger?: ((entry: LogEntry) => void) | undefined
  /** How downloads behave, where that is not to be the default. */
  policy?: Partial<FetchPolicy>
}

/** Files on a disk are large and fetched by fast machines: fewer, larger requests than in a browser. */
const POLICY: FetchPolicy = { ...DEFAULT_POLICY, pieceBytes: 16 << 20 }

/**
 * @throws RealmError DOWNLOAD_FAILED   the server cannot be reached or says no
 * @throws RealmError STORAGE_FULL      there is no room for what is downloaded
 * @throws RealmError WRITE_FAILED      the cache folder cannot be written to
 * @throws RealmError ABORTED           the signal was aborted
 * @throws RealmError INVALID_ARGUMENT  no known kind of source
 */
export async function resolveSource(
  source: unknown,
  context: NodeFetchContext,
): Promise<ResolvedSource> {
  if (context.signal?.aborted) throw aborted()
  if (source instanceof URL) return fromString(source.href, context)
  if (typeof source === 'string' && source !== '') return fromString(source, context)
  if (source instanceof Uint8Array) return source
  if (source instanceof ArrayBuffer) return new Uint8Array(source)
  if (isList(source)) return Promise.all(source.map((part) => bytesOf(part, context.signal)))
  if (source instanceof ReadableStream) return fromStream(source, context.signal)
  if (source instanceof Blob) return fromStream(source.stream(), context.signal)
  if (hasGetFile(source)) return resolveSource(await source.getFile(), context)
  throw invalid(
    'model source',
    'a path, URL, hf: name, Uint8Array, Blob, file handle or ReadableStream',
    source,
  )
}

async function fromString(source: string, context: NodeFetchContext): Promise<string> {
  if (/^https?:\/\//i.test(source))
    return fetched({ url: new URL(source) }, storageOf(context), toDownload(context))
  if (source.startsWith('hf:')) {
    const [storage, download] = [storageOf(context), toDownload(context)]
    return fetched(await findOnHub(source, storage, download), storage, download)
  }
  return source.startsWith('file:') ? fileURLToPath(source) : source
}

/** The path of a downloaded model's (first) file: the engine finds the other parts beside it. */
async function fetched(
  wanted: Wanted,
  storage: DiskStorage,
  context: DownloadContext,
): Promise<string> {
  const [path = ''] = await download(wanted, folderName(wanted.url), storage, paths, context)
  return path
}

const paths: Opener<string> = {
  open: async (folder, file) => join((folder as DiskFolder).path, file),
  close: () => {},
}

function storageOf({ cacheDirectory }: NodeFetchContext): DiskStorage {
  return new DiskStorage(cacheDirectory ?? defaultCache())
}

function toDownload(context: NodeFetchContext): DownloadContext {
  const { onProgress, signal, logger, hubEndpoint, hubToken, policy, revalidate } = context
  return {
    onProgress,
    signal,
    logger,
    hub: {
      endpoint: hubEndpoint ?? hubOfEnvironment(),
      token: hubToken ?? process.env.HF_TOKEN,
    },
    policy: { ...POLICY, ...policy },
    platform: nodeNetwork,
    currency: new Currency(revalidate ?? 0),
  }
}

async function fromStream(
  stream: ReadableStream<unknown>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  const reader = stream.getReader()
  const stop = () => reader.cancel(signal?.reason).catch(() => {})
  signal?.addEventListener('abort', stop, { once: true })
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (!(part.value instanceof Uint8Array))
        throw invalid('chunk of the model source', 'a Uint8Array', part.value)
      parts.push(part.value)
    }
  } catch (error) {
    stop()
    if (error instanceof RealmError) throw error
    throw new RealmError(
      'MODEL_UNREADABLE',
      `the stream failed: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  } finally {
    signal?.removeEventListener('abort', stop)
  }
  // A cancelled stream ends as if it were complete.
  if (signal?.aborted) throw aborted()
  const [only] = parts
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts)
}

function bytesOf(part: Uint8Array | Blob, signal: AbortSignal | undefined): Promise<Uint8Array> {
  return part instanceof Blob ? fromStream(part.stream(), signal) : Promise.resolve(part)
}

function isList(source: unknown): source is (Uint8Array | Blob)[] {
  return (
    Array.isArray(source) &&
    source.length > 0 &&
    source.every((item) => item instanceof Uint8Array || item instanceof Blob)
  )
}
