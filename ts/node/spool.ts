/**
 * Puts what comes as a stream or a Blob into a file beside the downloads, which the engine maps
 * like any other: in memory it would be there several times, and could not be given back.
 *
 * ```text
 * <cache>/spool-<random>/model.gguf
 *         locks/spool-<random>   locked until the file is let go, or its process ends
 * ```
 */

import { randomUUID } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DownloadProgress } from '../download/progress.js'
import type { Release } from '../download/storage.js'
import {
  aborted,
  type FetchContext,
  type OpenedSource,
  unreadable,
} from '../sources/model-source.js'
import { invalid } from '../validate.js'
import type { DiskFolder, DiskStorage } from './disk-storage.js'

const PREFIX = 'spool-'
const FILE = 'model.gguf'

/** What is to be put into a file. */
export interface Spoolable {
  stream: ReadableStream<unknown>
  /** Bytes of it; 0 where that is not known. */
  size: number
}

/**
 * @returns the file's path, and what removes it
 * @throws RealmError MODEL_UNREADABLE  the stream fails
 * @throws RealmError INVALID_ARGUMENT  it is a stream of something else than bytes, or locked
 * @throws RealmError STORAGE_FULL, WRITE_FAILED, ABORTED
 */
export async function spool(
  { stream, size }: Spoolable,
  storage: DiskStorage,
  { signal, onProgress }: FetchContext,
): Promise<OpenedSource<string>> {
  if (stream.locked) throw invalid('model source', 'a stream that is not locked', stream)
  // Nobody else is to read it from now on.
  const reader = stream.getReader()
  const progress = new DownloadProgress(1, onProgress)
  let receivedBytes = 0
  await removeAbandoned(storage)
  const folder = await storage.open(`${PREFIX}${randomUUID()}`)
  const path = join(folder.path, FILE)
  let unlock: Release | undefined
  const release = () => void remove(folder, unlock).catch(() => {})
  try {
    unlock = await folder.tryLock()
    const file = await open(path, 'wx')
    try {
      for await (const bytes of partsOf(reader, signal)) {
        await file.writeFile(bytes)
        receivedBytes += bytes.byteLength
        progress.report(receivedBytes, size)
      }
    } finally {
      await file.close()
    }
    progress.endPart(receivedBytes)
    return { source: path, release }
  } catch (error) {
    reader.cancel(error).catch(() => {})
    release()
    throw await folder.writeError(error, path, Math.max(size, receivedBytes))
  }
}

/** What a stream gives, piece by piece. */
async function* partsOf(
  reader: ReadableStreamDefaultReader<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const stop = () => void reader.cancel(signal?.reason).catch(() => {})
  signal?.addEventListener('abort', stop, { once: true })
  if (signal?.aborted) stop()
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw unreadable('the stream', error)
      })
      // A cancelled stream ends as if it were complete.
      if (signal?.aborted) throw aborted(signal.reason)
      if (done) return
      if (!(value instanceof Uint8Array))
        throw invalid('chunk of the model source', 'a Uint8Array', value)
      yield value
    }
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/** Removes what processes that ended without a word have left. */
async function removeAbandoned(storage: DiskStorage): Promise<void> {
  for (const folder of await storage.list()) {
    if (!folder.name.startsWith(PREFIX)) continue
    const unlock = await folder.tryLock().catch(() => undefined)
    if (unlock !== undefined) await remove(folder, unlock)
  }
}

/** For the holder of the lock. Any number of calls. */
async function remove(folder: DiskFolder, unlock: Release | undefined): Promise<void> {
  await folder.remove()
  unlock?.()
  await rm(folder.lockPath, { force: true })
}
