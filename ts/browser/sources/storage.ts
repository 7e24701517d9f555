/**
 * Where downloads are kept: a folder per model in the origin's private file system (OPFS), with a
 * journal and a data file for each part.
 *
 * ```text
 * realm/models/<hash of the first part's address>/1.json       journal of part 1
 *                                                 1-8f3a….gguf  its bytes
 * ```
 *
 * A data file never changes once it is complete: a new version gets a new name, so that who has
 * the old one open goes on reading it.
 */

import { RealmError } from '../../errors.js'
import { shortHash } from './checksum.js'
import { type Journal, readJournal } from './journal.js'
import { readerLock, tryLock } from './locks.js'

/** The model's folder, by the address of its first part. */
export function folderName(url: URL): string {
  return shortHash(url.href)
}

/** Name of a part's journal; parts count from 1. */
export function journalName(part: number): string {
  return `${part}.json`
}

/** Whether this browser, in this mode, has a private file system. */
export async function hasFileSystem(): Promise<boolean> {
  return modelsFolder().then(
    () => true,
    () => false,
  )
}

/** The folder of all models. */
export async function modelsFolder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory()
  const realm = await root.getDirectoryHandle('realm', { create: true })
  return realm.getDirectoryHandle('models', { create: true })
}

/** The journals of a model's parts, by their file names. */
export async function readJournals(
  folder: FileSystemDirectoryHandle,
): Promise<Map<string, Journal>> {
  const journals = new Map<string, Journal>()
  for await (const name of folder.keys()) {
    if (!name.endsWith('.json')) continue
    const journal = await readJournal(folder, name)
    if (journal !== undefined) journals.set(name, journal)
  }
  return journals
}

/**
 * Removes a data file unless it is open somewhere, here or in another tab.
 * @returns whether it is gone
 */
export async function removeDataFile(
  folder: FileSystemDirectoryHandle,
  file: string,
): Promise<boolean> {
  const release = await tryLock(readerLock(folder.name, file))
  if (release === undefined) return false
  try {
    await folder.removeEntry(file)
    return true
  } catch (error) {
    return (error as DOMException).name === 'NotFoundError'
  } finally {
    release()
  }
}

/** Removes data files that no journal names: old versions, and those of lost journals. */
export async function removeStrays(
  folder: FileSystemDirectoryHandle,
  journals: Map<string, Journal>,
): Promise<void> {
  const files = new Set([...journals.values()].map(({ file }) => file))
  const names: string[] = []
  for await (const name of folder.keys()) names.push(name)
  for (const name of names)
    if (!name.endsWith('.json') && !files.has(name)) await removeDataFile(folder, name)
}

/** The error of a file that found no room. What a browser says of its room is a rough guide. */
export async function storageFull(url: string, neededBytes: number, cause: unknown) {
  const { usage = 0, quota = 0 } = await navigator.storage.estimate()
  return new RealmError(
    'STORAGE_FULL',
    `${url}: ${neededBytes} bytes are needed, which the browser does not grant ` +
      `(it says that ${usage} of ${quota} bytes are in use); delete models with Realm.cache`,
    { cause },
  )
}
