/**
 * `Realm.cache` in browsers: models in the origin's private file system. Works in pages and in
 * workers.
 */

import { byLastUse, type CachedModel, type ModelCache, namedBy } from '../../cache.js'
import { RealmError } from '../../errors.js'
import { type Journal, storedBytes } from './journal.js'
import { tryLock, writerLock } from './locks.js'
import {
  hasFileSystem,
  journalName,
  modelsFolder,
  readJournals,
  removeDataFile,
} from './storage.js'

/** The cache of this page's origin; empty where the browser has no private file system. */
export function browserCache(hubEndpoint?: string): ModelCache {
  return {
    async list() {
      return (await listFolders()).map(({ model }) => model).sort(byLastUse)
    },

    async size() {
      return (await listFolders()).reduce((sum, { model }) => sum + model.bytes, 0)
    },

    async delete(source) {
      const isNamed = namedBy(source, hubEndpoint)
      const named = (await listFolders()).filter(({ model }) => isNamed(model.url))
      await removeAll(named)
      return named.length > 0
    },

    async clear() {
      await removeAll(await listFolders())
    },

    async quota() {
      const { storage } = navigator as { storage?: StorageManager }
      const { usage = 0, quota = 0 } = (await storage?.estimate()) ?? {}
      return { usage, quota, persisted: (await storage?.persisted()) ?? false }
    },

    async persist() {
      const { storage } = navigator as {
        storage?: StorageManager & { persist?(): Promise<boolean> }
      }
      // Only pages can ask; workers learn what was granted.
      return (await (storage?.persist?.() ?? storage?.persisted())) ?? false
    },
  }
}

interface ModelFolder {
  handle: FileSystemDirectoryHandle
  model: CachedModel
}

async function listFolders(): Promise<ModelFolder[]> {
  if (!(await hasFileSystem())) return []
  const folders: ModelFolder[] = []
  for await (const handle of (await modelsFolder()).values()) {
    if (handle.kind !== 'directory') continue
    const journals = await readJournals(handle)
    const first = journals.get(journalName(1))
    // A folder without a readable journal is filled anew by the next load.
    if (first !== undefined)
      folders.push({ handle, model: describe(first, [...journals.values()]) })
  }
  return folders
}

function describe(first: Journal, journals: Journal[]): CachedModel {
  const sizes = journals.map(({ version }) => version?.size)
  const isWhole = journals.length === first.parts && !sizes.includes(undefined)
  return {
    url: first.url,
    bytes: journals.reduce((sum, journal) => sum + storedBytes(journal), 0),
    totalBytes: isWhole ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) : null,
    isComplete: isWhole && journals.every(({ isComplete }) => isComplete),
    lastUsed: new Date(Math.max(...journals.map(({ lastUsed }) => lastUsed))),
  }
}

/** Removes all that are not in use, then says which are. */
async function removeAll(folders: ModelFolder[]): Promise<void> {
  const used: string[] = []
  for (const { handle, model } of folders) if (!(await removeFolder(handle))) used.push(model.url)
  if (used.length > 0)
    throw new RealmError('IN_USE', `loaded or being downloaded: ${used.join(', ')}`)
}

/** Removes a model unless somebody writes or reads it. Returns whether it is gone. */
async function removeFolder(folder: FileSystemDirectoryHandle): Promise<boolean> {
  const release = await tryLock(writerLock(folder.name))
  if (release === undefined) return false
  try {
    for (const { file } of (await readJournals(folder)).values())
      if (file !== '' && !(await removeDataFile(folder, file))) return false
    await (await modelsFolder()).removeEntry(folder.name, { recursive: true })
    return true
  } finally {
    release()
  }
}
