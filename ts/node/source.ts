/**
 * Turns whatever a model may be loaded from into a path or bytes for the engine.
 */

import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DownloadContext } from '../download/context.js'
import { Currency } from '../download/currency.js'
import { download, type Opener, type Wanted } from '../download/download.js'
import { findOnHub } from '../download/find-on-hub.js'
import { DEFAULT_POLICY, type FetchPolicy } from '../download/requests.js'
import { RealmError } from '../errors.js'
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
import { type CheckedRemote, isRemote, readRemote } from '../sources/remote-source.js'
import { parseUrl } from '../sources/url.js'
import { invalid, reading } from '../validate.js'
import { defaultCache, hubOfEnvironment } from './disk-cache.js'
import { type DiskFolder, DiskStorage } from './disk-storage.js'
import { nodeNetwork } from './network.js'
import { spool } from './spool.js'

/** What a source is turned into for the engine. */
export type ResolvedSource = string | Uint8Array | Uint8Array[]

/** What fetching a source needs to know. */
export interface NodeFetchContext extends FetchContext, SourceSettings {
  /** How downloads behave, where that is not to be the default. */
  policy?: Partial<FetchPolicy>
}

/** Files on a disk are large and fetched by fast machines: fewer, larger requests than in a browser. */
const POLICY: FetchPolicy = { ...DEFAULT_POLICY, pieceBytes: 16 << 20 }

/**
 * @throws RealmError DOWNLOAD_FAILED   the server cannot be reached or says no
 * @throws RealmError STORAGE_FULL      there is no room for what is fetched
 * @throws RealmError WRITE_FAILED      the cache folder cannot be written to
 * @throws RealmError MODEL_UNREADABLE  a stream or a file handle fails
 * @throws RealmError ABORTED           the signal was aborted
 * @throws RealmError INVALID_ARGUMENT  no known kind of source
 */
export async function resolveSource(
  source: unknown,
  context: NodeFetchContext,
): Promise<OpenedSource<ResolvedSource>> {
  if (context.signal?.aborted) throw aborted(context.signal.reason)
  return reading('model source', () => resolve(source, context))
}

function resolve(
  source: unknown,
  context: NodeFetchContext,
): OpenedSource<ResolvedSource> | Promise<OpenedSource<ResolvedSource>> {
  const { signal } = context
  if (source instanceof URL) return fromString(source.href, context)
  if (typeof source === 'string' && source !== '') return fromString(source, context)
  if (isRemote(source)) return fromServer(readRemote(source), context)
  if (source instanceof Uint8Array) return held(source)
  if (source instanceof ArrayBuffer) return held(new Uint8Array(source))
  if (isList(source)) return Promise.all(source.map((part) => bytesOf(part, signal))).then(held)
  if (source instanceof ReadableStream)
    return spool({ stream: source, size: 0 }, storageOf(context), context)
  if (source instanceof Blob)
    return spool({ stream: source.stream(), size: source.size }, storageOf(context), context)
  if (hasGetFile(source)) return fileOf(source, signal).then((file) => resolve(file, context))
  throw invalid(
    'model source',
    'a path, URL, hf: name, { url }, Uint8Array, Blob, file handle or ReadableStream',
    source,
  )
}

async function fromString(
  source: string,
  context: NodeFetchContext,
): Promise<OpenedSource<string>> {
  if (/^https?:/i.test(source)) return fromServer({ url: parseUrl(source) }, context)
  if (source.startsWith('hf:')) {
    const [storage, download] = [storageOf(context), toDownload(context)]
    return fetched(await findOnHub(source, storage, download), storage, download)
  }
  return { source: await pathOf(source), release: () => {} }
}

/** Bytes that are held in memory, of which nothing is to be let go. */
function held(source: Uint8Array | Uint8Array[]): OpenedSource<ResolvedSource> {
  return { source, release: () => {} }
}

/** The path that a text means: itself, or that of a `file:` URL. */
async function pathOf(source: string): Promise<string> {
  if (/^file:/i.test(source)) {
    try {
      return fileURLToPath(source)
    } catch (error) {
      const { message } = error as Error
      throw new RealmError('INVALID_ARGUMENT', `model source: ${message}`, { cause: error })
    }
  }
  // A letter alone is a drive of Windows; a file may have a colon in its name.
  const [, scheme] = /^([a-z][a-z\d+.-]+):/i.exec(source) ?? []
  if (scheme === undefined || (await stat(source).catch(() => undefined))) return source
  throw new RealmError(
    'INVALID_ARGUMENT',
    `model source: ${scheme}: is no scheme that models are loaded from; expected a path, file:, http:, https: or hf:`,
  )
}

function fromServer(
  { headers, ...wanted }: Partial<CheckedRemote> & Pick<CheckedRemote, 'url'>,
  context: NodeFetchContext,
): Promise<OpenedSource<string>> {
  return fetched(wanted, storageOf(context), { ...toDownload(context), headers })
}

/** The path of a downloaded model's (first) file: the engine finds the other parts beside it. */
async function fetched(
  wanted: Wanted,
  storage: DiskStorage,
  context: DownloadContext,
): Promise<OpenedSource<string>> {
  const files = await download(wanted, storage, stored, context)
  const release = () => {
    for (const file of files) file.release()
  }
  return { source: files[0]?.source ?? '', release }
}

/** Files are read under a lock, so that nobody deletes them meanwhile. */
const stored: Opener<OpenedSource<string>> = {
  open: async (folder, file) => {
    const { path, reading } = folder as DiskFolder
    return { source: join(path, file), release: await reading(file) }
  },
  close: ({ release }) => release(),
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
    headers: undefined,
    policy: { ...POLICY, ...policy },
    platform: nodeNetwork,
    currency: new Currency(revalidate ?? 0),
  }
}

async function bytesOf(
  part: Uint8Array | Blob,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (part instanceof Uint8Array) return part
  const bytes = part.arrayBuffer().catch((error) => {
    throw unreadable('the Blob', error)
  })
  return new Uint8Array(await unlessAborted(bytes, signal))
}

function isList(source: unknown): source is (Uint8Array | Blob)[] {
  return (
    Array.isArray(source) &&
    source.length > 0 &&
    source.every((item) => item instanceof Uint8Array || item instanceof Blob)
  )
}
