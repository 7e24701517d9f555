/**
 * Turns whatever a model may be loaded from into a path or bytes for the engine.
 */

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultCache, hubOfEnvironment } from './disk-cache.js'
import { type DiskFolder, DiskStorage, folderName } from './disk-storage.js'
import type { DownloadContext } from './download/context.js'
import { download, findOnHub, type Opener, type Wanted } from './download/download.js'
import { DEFAULT_POLICY, type FetchPolicy } from './download/requests.js'
import { messageOf, RealmError } from './errors.js'
import {
  aborted,
  type FetchContext,
  fileOf,
  hasGetFile,
  type SourceSettings,
} from './model-source.js'
import { nodeNetwork } from './network.js'
import type { LogEntry } from './reports.js'
import { invalid, reading } from './validate.js'

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
  return reading('model source', () => resolve(source, context))
}

function resolve(
  source: unknown,
  context: NodeFetchContext,
): ResolvedSource | Promise<ResolvedSource> {
  if (source instanceof URL) return fromString(source.href, context)
  if (typeof source === 'string' && source !== '') return fromString(source, context)
  if (source instanceof Uint8Array) return source
  if (source instanceof ArrayBuffer) return new Uint8Array(source)
  if (isList(source)) return Promise.all(source.map((part) => bytesOf(part, context.signal)))
  if (source instanceof ReadableStream) return fromStream(source, context.signal)
  if (source instanceof Blob) return fromStream(source.stream(), context.signal)
  if (hasGetFile(source)) return fileOf(source).then((file) => resolve(file, context))
  throw invalid(
    'model source',
    'a path, URL, hf: name, Uint8Array, Blob, file handle or ReadableStream',
    source,
  )
}

function fromString(source: string, context: NodeFetchContext): string | Promise<string> {
  if (/^https?:\/\//i.test(source)) return fetched({ url: new URL(source) }, context)
  if (source.startsWith('hf:')) return fromHub(source, context)
  return source.startsWith('file:') ? fileURLToPath(source) : source
}

async function fromHub(name: string, context: NodeFetchContext): Promise<string> {
  return fetched(await findOnHub(name, storageOf(context), toDownload(context)), context)
}

/** The path of a downloaded model's (first) file: the engine finds the other parts beside it. */
async function fetched(wanted: Wanted, context: NodeFetchContext): Promise<string> {
  const name = folderName(wanted.url)
  const storage = storageOf(context)
  const [path = ''] = await download(wanted, name, storage, paths, toDownload(context))
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
  const { onProgress, signal, logger, hubEndpoint, hubToken, policy } = context
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
  }
}

function fromStream(
  stream: ReadableStream<unknown>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  // Throws for a stream that somebody else reads.
  return readAll(stream.getReader(), signal)
}

async function readAll(
  reader: ReadableStreamDefaultReader<unknown>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
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
    throw new RealmError('MODEL_UNREADABLE', `the stream failed: ${messageOf(error)}`, {
      cause: error,
    })
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
