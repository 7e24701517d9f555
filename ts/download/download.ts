/**
 * Downloads models from servers and hubs, and keeps them. Programs and tabs that want the same
 * model at once take turns: the first downloads, the others see how far it is and then find it.
 */

import type { HubFile } from '../sources/hub.js'
import { partUrls } from '../sources/split-file.js'
import type { DownloadContext } from './context.js'
import { findOutdated } from './currency.js'
import { storedBytes } from './journal.js'
import type { FileStore, PieceStore, StoredPart } from './piece-store.js'
import { DownloadProgress, followProgress } from './progress.js'
import { type ModelFolder, type ModelStorage, type Release, readJournals } from './storage.js'
import { StoredParts } from './stored-parts.js'
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
  /** What it is stored under instead of its address. */
  cacheKey?: string | undefined
  expectations?: ReadonlyMap<string, Expected>
}

/** Opens a file of a folder, and lets it go again. */
export interface Opener<T> {
  open(folder: ModelFolder, file: string): Promise<T>
  close(opened: T): void
}

/** Failures in a row after which a new version is given up, since there is an old one. */
const REPLACEMENT_ATTEMPTS = 2

const NOTHING_EXPECTED: Expected = { sizeBytes: undefined, sha256: undefined }

/** The files of a model. */
export function partsOf({ url, cacheKey, expectations }: Wanted): Part[] {
  const urls = partUrls(url)
  return urls.map((part, i) => ({
    url: part,
    cacheKey,
    part: i + 1,
    parts: urls.length,
    expected: expectations?.get(part.href) ?? NOTHING_EXPECTED,
  }))
}

/**
 * Brings the files of a model into their folder, unless they are there and what the server has,
 * and opens each.
 * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, WRITE_FAILED, ABORTED
 */
export async function download<T>(
  wanted: Wanted,
  storage: ModelStorage,
  opener: Opener<T>,
  context: DownloadContext,
): Promise<T[]> {
  const parts = partsOf(wanted)
  const folder = await storage.open(await storage.nameOf(wanted.cacheKey ?? wanted.url.href))
  const release = await waitForTurn(folder, parts.length, context)
  try {
    const stores = await bringUpToDate(folder, parts, context)
    return await openAll(stores, opener, async (store) => opener.open(folder, await store.use()))
  } catch (error) {
    await removeUnlessResumable(folder)
    throw error
  } finally {
    release()
  }
}

/** Opens each; when one fails, those before it are let go. */
export async function openAll<S, T>(
  sources: readonly S[],
  { close }: Pick<Opener<T>, 'close'>,
  open: (source: S) => Promise<T>,
): Promise<T[]> {
  const opened: T[] = []
  try {
    for (const source of sources) opened.push(await open(source))
    return opened
  } catch (error) {
    for (const one of opened) close(one)
    throw error
  }
}

/**
 * Sees to it that the folder has all parts, in the server's version where that can be had.
 * @returns the parts as they are stored then
 */
async function bringUpToDate(
  folder: ModelFolder,
  parts: readonly Part[],
  context: DownloadContext,
): Promise<readonly FileStore[]> {
  const { policy, signal, logger } = context
  const stored = await StoredParts.load(folder, parts, policy.pieceBytes)
  const isUsable = stored.isComplete
  try {
    await fetchParts(parts, stored, context)
    await stored.replace()
  } catch (error) {
    if (!isUsable || signal?.aborted) throw error
    logger?.({ level: 'warn', message: `${(error as Error).message}; using the stored file` })
  } finally {
    await stored.close()
  }
  return stored.current
}

/** Fetches what is missing, and the replacements of what is outdated. */
async function fetchParts(
  parts: readonly Part[],
  stored: StoredParts<Part>,
  context: DownloadContext,
): Promise<void> {
  const outdated = await findOutdated(stored.current, context)
  const progress = new DownloadProgress(parts.length, context.onProgress)
  const { policy } = context
  const attempts = Math.min(policy.attempts, REPLACEMENT_ATTEMPTS)
  const impatient = { ...context, policy: { ...policy, attempts } }
  for (const [i, part] of parts.entries()) {
    const current = stored.current[i] as FileStore
    const isOutdated = outdated.has(current)
    const store = isOutdated ? await stored.replacementOf(current) : current
    if (!store.isComplete) await fetchPart(part, store, isOutdated ? impatient : context, progress)
    progress.endPart(store.version?.size ?? 0)
  }
}

/** Fetches what is missing of a part. */
export function fetchPart(
  { url, expected }: Part,
  store: PieceStore,
  { policy, hub, headers, platform, signal }: DownloadContext,
  progress: DownloadProgress,
): Promise<void> {
  const onBytes = (received: number, total: number) => progress.report(received, total)
  return transfer({ url, store, expected, policy, hub, headers, platform, signal, onBytes })
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
