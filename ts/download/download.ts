/**
 * Downloads models from servers and hubs, and keeps them. Programs and tabs that want the same
 * model at once take turns: the first downloads, the others see how far it is and then find it.
 */

import { namedBy } from '../cache.js'
import {
  chooseFile,
  type HubFile,
  hubFileUrl,
  hubListingUrl,
  parseHubName,
  readListing,
} from '../hub.js'
import { partUrls } from '../split-file.js'
import type { DownloadContext } from './context.js'
import { storedBytes } from './journal.js'
import { listModels } from './model-cache.js'
import { FileStore, type PieceStore, type StoredPart } from './piece-store.js'
import { DownloadProgress, followProgress } from './progress.js'
import { differs, firstAnswer, request, Transient, versionOf } from './requests.js'
import {
  type ModelFolder,
  type ModelStorage,
  type Release,
  readJournals,
  removeStrays,
} from './storage.js'
import { transfer } from './transfer.js'

/** What is known about a file from elsewhere than its server. */
export type Expected = Pick<HubFile, 'sizeBytes' | 'sha256'>

/** One file of a model. */
export interface Part extends StoredPart {
  expected: Expected
}

/** A model to download: the address of its first part, and what is known of its parts, by theirs. */
export interface Wanted {
  url: URL
  expectations?: ReadonlyMap<string, Expected>
}

/** Opens a file of a folder, and lets it go again. */
export interface Opener<T> {
  open(folder: ModelFolder, file: string): Promise<T>
  close(opened: T): void
}

/** How long a server may take to say whether it has another version than the one that is there. */
const CHECK_MS = 8000

const NOTHING_EXPECTED: Expected = { sizeBytes: undefined, sha256: undefined }

/** The files of a model. */
export function partsOf({ url, expectations }: Wanted): Part[] {
  const urls = partUrls(url)
  return urls.map((part, i) => ({
    url: part,
    part: i + 1,
    parts: urls.length,
    expected: expectations?.get(part.href) ?? NOTHING_EXPECTED,
  }))
}

/**
 * Brings the files of a model into their folder, unless they are there and what the server has,
 * and opens each.
 * @param name  the folder's
 * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, WRITE_FAILED, ABORTED
 */
export async function download<T>(
  wanted: Wanted,
  name: string,
  storage: ModelStorage,
  opener: Opener<T>,
  context: DownloadContext,
): Promise<T[]> {
  const parts = partsOf(wanted)
  const folder = await storage.open(name)
  const release = await waitForTurn(folder, parts.length, context)
  try {
    await removeStrays(folder)
    const progress = new DownloadProgress(parts.length, context.onProgress)
    return await openParts(parts, opener, async (part) => {
      const { file, bytes } = await storedFile(folder, part, context, progress)
      progress.endPart(bytes)
      return opener.open(folder, file)
    })
  } catch (error) {
    await removeUnlessResumable(folder)
    throw error
  } finally {
    release()
  }
}

/** Opens each part; when one fails, those before it are let go. */
export async function openParts<T>(
  parts: Part[],
  { close }: Pick<Opener<T>, 'close'>,
  open: (part: Part) => Promise<T>,
): Promise<T[]> {
  const opened: T[] = []
  try {
    for (const part of parts) opened.push(await open(part))
    return opened
  } catch (error) {
    for (const one of opened) close(one)
    throw error
  }
}

/**
 * What a name of the hub means: `hf:owner/repo[/file][@revision]`. Without a file the repository's
 * only GGUF is taken, else its Q4_K_M, else its Q8_0.
 * @throws RealmError DOWNLOAD_FAILED, ABORTED
 */
export async function findOnHub(
  source: string,
  storage: ModelStorage | undefined,
  context: DownloadContext,
): Promise<Wanted> {
  const name = parseHubName(source)
  const { signal, hub, policy } = context
  const url = hubListingUrl(hub.endpoint, name)
  const kept = storage && (await keptModel(source, hub.endpoint, storage))
  // A file that is named, or the one that is kept, can be had without the list.
  const isOptional = name.file !== undefined || kept !== undefined
  const patience = isOptional ? { ...policy, attempts: 1 } : policy
  const listing = await firstAnswer(url, patience, signal, async () => {
    const response = await request(url, {}, { ...context, stallMs: policy.stallMs })
    return readListing(await response.json().catch(() => []))
  }).catch((error) => {
    if (!isOptional || signal?.aborted) throw error
    return undefined
  })
  if (listing === undefined && kept !== undefined) return { url: kept }
  const file = name.file ?? chooseFile(name.repo, listing ?? [])
  const urlOf = (path: string) => new URL(hubFileUrl(hub.endpoint, name, path))
  const expectations = new Map(listing?.map((entry) => [urlOf(entry.path).href, entry]))
  return { url: urlOf(file), expectations }
}

/** The model that a name of the hub means among those that are kept, if there is just one. */
async function keptModel(
  source: string,
  endpoint: string,
  storage: ModelStorage,
): Promise<URL | undefined> {
  const isNamed = namedBy(source, endpoint)
  const models = await listModels(storage)
  const [only, ...others] = models.filter(({ url, isComplete }) => isComplete && isNamed(url))
  return only === undefined || others.length > 0 ? undefined : new URL(only.url)
}

/** The data file of a part, once that is complete and what the server has. */
async function storedFile(
  folder: ModelFolder,
  part: Part,
  context: DownloadContext,
  progress: DownloadProgress,
): Promise<{ file: string; bytes: number }> {
  const store = await FileStore.load(folder, part, context.policy)
  try {
    if (!store.isComplete || !(await isCurrent(part.url, store, context))) {
      if (store.isComplete) await store.begin(null)
      await fetchPart(part, store, context, progress)
    }
    return { file: await store.use(), bytes: store.version?.size ?? 0 }
  } finally {
    await store.close()
  }
}

/** Fetches what is missing of a part. */
export function fetchPart(
  { url, expected }: Part,
  store: PieceStore,
  { policy, hub, platform, signal }: DownloadContext,
  progress: DownloadProgress,
): Promise<void> {
  const onBytes = (received: number, total: number) => progress.report(received, total)
  return transfer({ url, store, expected, policy, hub, platform, signal, onBytes })
}

/** Whether the server still has the stored version. A server that cannot be reached has. */
async function isCurrent(url: URL, store: PieceStore, context: DownloadContext): Promise<boolean> {
  const { policy, signal, logger } = context
  const { version } = store
  if (version === null) return false
  const options = { ...context, stallMs: Math.min(policy.stallMs, CHECK_MS) }
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

/** Takes the folder's lock; while somebody else has it, its progress is passed on. */
async function waitForTurn(
  folder: ModelFolder,
  parts: number,
  { onProgress, signal }: DownloadContext,
): Promise<Release> {
  const free = await folder.tryLock()
  if (free !== undefined) return free
  const unfollow = followProgress(folder, parts, onProgress)
  try {
    return await folder.lock(signal)
  } finally {
    unfollow()
  }
}

/** Leaves nothing behind that the next load could not go on from. */
async function removeUnlessResumable(folder: ModelFolder): Promise<void> {
  const journals = [...(await readJournals(folder)).values()]
  if (journals.some((journal) => journal.version !== null && storedBytes(journal) > 0)) return
  await folder.remove().catch(() => {})
}
