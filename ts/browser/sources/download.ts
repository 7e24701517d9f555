/**
 * Downloads models from servers and hubs, and keeps them. Tabs that want the same model at once
 * take turns: the first downloads, the others hear how far it is and then find it there.
 */

import { namedBy } from '../../cache.js'
import { chooseFile, hubFileUrl, hubListingUrl, parseHubName, readListing } from '../../hub.js'
import { partUrls } from '../../split-file.js'
import type { ByteSource } from './byte-source.js'
import { browserCache } from './cache.js'
import type { SourceContext } from './context.js'
import { type Journal, storedBytes } from './journal.js'
import { lock, tryLock, writerLock } from './locks.js'
import { BlobStore, FileStore, type PieceStore } from './piece-store.js'
import { DownloadProgress } from './progress.js'
import { differs, request, retrying, Transient, versionOf } from './requests.js'
import { folderName, hasFileSystem, modelsFolder, readJournals, removeStrays } from './storage.js'
import { transfer } from './transfer.js'

/** What is known about a file from elsewhere than its server. */
interface Expected {
  sizeBytes: number | undefined
  sha256: string | undefined
}

/** How long a server may take to say whether it has another version than the one that is there. */
const CHECK_MS = 8000

const NOTHING_EXPECTED: Expected = { sizeBytes: undefined, sha256: undefined }

/** One file of a model. */
interface Part {
  url: URL
  /** Counts from 1. */
  part: number
  parts: number
  expected: Expected
}

/**
 * Fetches the file at `url`, and the other parts of a split file.
 * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, ABORTED
 */
export async function download(
  url: URL,
  context: SourceContext,
  expectations: ReadonlyMap<string, Expected> = new Map(),
): Promise<ByteSource[]> {
  const urls = partUrls(url)
  const parts = urls.map((part, i) => ({
    url: part,
    part: i + 1,
    parts: urls.length,
    expected: expectations.get(part.href) ?? NOTHING_EXPECTED,
  }))
  if (!(await hasFileSystem())) {
    context.logger?.({
      level: 'warn',
      message: `${url.href}: this browser has no private file system here; the download is not kept`,
    })
    const progress = new DownloadProgress(undefined, parts.length, context)
    return openParts(parts, progress, async (part) => {
      const store = new BlobStore(context.policy.pieceBytes)
      await fetchPart(part, store, context, progress)
      return store.open()
    })
  }
  const folder = await (await modelsFolder()).getDirectoryHandle(folderName(url), { create: true })
  const release = await waitForTurn(folder.name, parts.length, context)
  const progress = new DownloadProgress(folder.name, parts.length, context)
  try {
    await removeStrays(folder, await readJournals(folder))
    return await openParts(parts, progress, (part) => openStored(folder, part, context, progress))
  } catch (error) {
    await removeUnlessResumable(folder)
    throw error
  } finally {
    progress.close()
    release()
  }
}

/** Fetches from a model hub: `hf:owner/repo[/file][@revision]`. */
export async function fromHub(source: string, context: SourceContext): Promise<ByteSource[]> {
  const name = parseHubName(source)
  const { signal, hub, policy } = context
  const { endpoint } = hub
  const listingUrl = hubListingUrl(endpoint, name)
  const kept = await keptModel(source, endpoint)
  // A file that is named, or the one that is kept, can be had without the list.
  const isOptional = name.file !== undefined || kept !== undefined
  const patience = isOptional ? { ...policy, attempts: 1 } : policy
  const listing = await retrying(listingUrl, patience, signal, async () => {
    const response = await request(listingUrl, {}, { signal, hub, stallMs: policy.stallMs })
    return readListing(await response.json().catch(() => []))
  }).catch((error) => {
    if (!isOptional || signal?.aborted) throw error
    return undefined
  })
  if (listing === undefined && kept !== undefined) return download(kept, context)
  const file = name.file ?? chooseFile(name.repo, listing ?? [])
  const urlOf = (path: string) => new URL(hubFileUrl(endpoint, name, path))
  const expectations = new Map(listing?.map((entry) => [urlOf(entry.path).href, entry]))
  return download(urlOf(file), context, expectations)
}

/** The model that a name of the hub means among those that are kept, if there is just one. */
async function keptModel(source: string, endpoint: string): Promise<URL | undefined> {
  const isNamed = namedBy(source, endpoint)
  const models = await browserCache(endpoint).list()
  const [only, ...others] = models.filter(({ url, isComplete }) => isComplete && isNamed(url))
  return only === undefined || others.length > 0 ? undefined : new URL(only.url)
}

async function openParts(
  parts: Part[],
  progress: DownloadProgress,
  open: (part: Part) => Promise<ByteSource>,
): Promise<ByteSource[]> {
  const sources: ByteSource[] = []
  try {
    for (const part of parts) {
      sources.push(await open(part))
      progress.endPart(sources.at(-1)?.size ?? 0)
    }
    return sources
  } catch (error) {
    for (const source of sources) source.close()
    throw error
  }
}

/** A part as it is stored, once that is complete and what the server has. */
async function openStored(
  folder: FileSystemDirectoryHandle,
  part: Part,
  context: SourceContext,
  progress: DownloadProgress,
): Promise<ByteSource> {
  const { pieceBytes } = context.policy
  const store = await FileStore.load(folder, { ...part, pieceBytes })
  try {
    if (!store.isComplete || !(await isCurrent(part.url, store, context))) {
      if (store.isComplete) await store.begin(null)
      await fetchPart(part, store, context, progress)
    }
    return await store.open()
  } finally {
    store.close()
  }
}

function fetchPart(
  { url, expected }: Part,
  store: PieceStore,
  { policy, hub, signal }: SourceContext,
  progress: DownloadProgress,
): Promise<void> {
  const onBytes = (received: number, total: number) => progress.report(received, total)
  return transfer({ url, store, expected, policy, hub, signal, onBytes })
}

/** Whether the server still has the stored version. A server that cannot be reached has. */
async function isCurrent(url: URL, store: PieceStore, context: SourceContext): Promise<boolean> {
  const { hub, policy, signal, logger } = context
  const { version } = store
  if (version === null) return false
  const options = { hub, signal, stallMs: Math.min(policy.stallMs, CHECK_MS) }
  const head = () => request(url, { method: 'HEAD' }, options)
  // Some servers answer only to GET, such as those with addresses signed for it.
  const firstByte = () => request(url, { headers: { range: 'bytes=0-0' } }, options)
  try {
    const response = await head().catch((error) => {
      if (error instanceof Transient || signal?.aborted) throw error
      return firstByte()
    })
    const said = versionOf(response)
    response.body?.cancel().catch(() => {})
    return !differs(version, said)
  } catch (error) {
    if (!(error instanceof Transient)) throw error
    logger?.({ level: 'warn', message: `${url.href}: ${error.message}; using the stored file` })
    return true
  }
}

/** Takes the folder's lock; while another tab has it, its progress is passed on. */
async function waitForTurn(
  folder: string,
  parts: number,
  context: SourceContext,
): Promise<() => void> {
  const name = writerLock(folder)
  const free = await tryLock(name)
  if (free !== undefined) return free
  const progress = new DownloadProgress(folder, parts, context)
  progress.follow()
  try {
    return await lock(name, 'exclusive', context.signal)
  } finally {
    progress.close()
  }
}

/** Leaves nothing behind that the next load could not go on from. */
async function removeUnlessResumable(folder: FileSystemDirectoryHandle): Promise<void> {
  const journals: Journal[] = [...(await readJournals(folder)).values()]
  if (journals.some((journal) => journal.version !== null && storedBytes(journal) > 0)) return
  await (await modelsFolder()).removeEntry(folder.name, { recursive: true }).catch(() => {})
}
