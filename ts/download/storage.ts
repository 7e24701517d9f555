/**
 * Where downloads are kept: a folder per model, with a journal and a data file for each part. In
 * Node it is a folder on the disk, in browsers one of the origin's private file system.
 *
 * ```text
 * <hash of the first part's address>/1.json       journal of part 1
 *                                    1.next.json  that of what is to take its place
 *                                    …            their bytes, by the names that the journals tell
 * ```
 */

import { type Journal, parseJournal } from './journal.js'

/** The folders of all models. */
export interface ModelStorage {
  /** Name of the folder for what is stored under an address or a name: the start of its SHA-256. */
  nameOf(key: string): Promise<string>
  /** The folder of a model, which is there from when its lock is taken, if not before. */
  open(name: string): Promise<ModelFolder>
  list(): Promise<ModelFolder[]>
}

/** Gives a lock back. Any number of calls. */
export type Release = () => void

/** The files of one model. Only the holder of its lock writes. */
export interface ModelFolder {
  readonly name: string
  /** Takes the lock, which ends with its owner, unless somebody has it: then undefined. */
  tryLock(): Promise<Release | undefined>
  /**
   * Waits for the lock.
   * @throws RealmError ABORTED
   */
  lock(signal: AbortSignal | undefined): Promise<Release>
  files(): Promise<string[]>
  /** A small file, or undefined where there is none that can be read. */
  readText(file: string): Promise<string | undefined>
  /** Replaces a small file as a whole. */
  writeText(file: string, text: string): Promise<void>
  removeText(file: string): Promise<void>
  /** What the data file of a part is called while it is being put together. */
  dataFileName(part: number, url: URL, generation: number): string
  /**
   * Gives a complete file of an older generation a name of this one as well, where those of all
   * parts must fit together. Returns its name.
   */
  adopt(file: string, part: number, url: URL, generation: number): Promise<string>
  /** Bytes of a file, or undefined if it is not there. */
  sizeOf(file: string): Promise<number | undefined>
  /** Reads from a data file; fewer bytes than asked for where it ends before. */
  read(file: string, offset: number, length: number): Promise<Uint8Array>
  /** Opens a data file, which is made if it is not there. */
  openForWriting(file: string): Promise<WritableFile>
  /** Gives a data file that is complete its final name, and returns that. */
  publish(file: string): Promise<string>
  /** Removes a data file unless it is open somewhere. Returns whether it is gone. */
  removeDataFile(file: string): Promise<boolean>
  /** Removes the folder with all that is in it. */
  remove(): Promise<void>
  /** What to throw for an error of writing: STORAGE_FULL where that is what it says. */
  writeError(error: unknown, url: string, neededBytes: number): Promise<unknown>
}

/** A data file that is open for writing. */
export interface WritableFile {
  /** Makes the file this long, and sees to it that there is room for the bytes still to come. */
  reserve(size: number, missingBytes: number): Promise<void>
  /** Writes all of the bytes, to last. */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number): Promise<void>
  read(offset: number, length: number): Promise<Uint8Array>
  /** Makes the file this long. */
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

/** Name of a part's journal; parts count from 1. */
export function journalName(part: number): string {
  return `${part}.json`
}

/** Name of the journal of what is to take a part's place. */
export function nextJournalName(part: number): string {
  return `${part}.next.json`
}

/** A journal, or undefined if there is none that can be read. */
export async function readJournal(folder: ModelFolder, name: string): Promise<Journal | undefined> {
  const text = await folder.readText(name)
  return text === undefined ? undefined : parseJournal(text)
}

/** The journals of a model's parts, by their file names. */
export function readJournals(folder: ModelFolder): Promise<Map<string, Journal>> {
  return readMatching(folder, /^\d+\.json$/)
}

/** Those as well of what is to take their place. */
export function readAllJournals(folder: ModelFolder): Promise<Map<string, Journal>> {
  return readMatching(folder, /\.json$/)
}

async function readMatching(folder: ModelFolder, pattern: RegExp): Promise<Map<string, Journal>> {
  const journals = new Map<string, Journal>()
  for (const name of await folder.files()) {
    if (!pattern.test(name)) continue
    const journal = await readJournal(folder, name)
    if (journal !== undefined) journals.set(name, journal)
  }
  return journals
}

/** Removes data files that no journal names and nobody reads: old versions, and those of lost journals. */
export async function removeStrays(folder: ModelFolder): Promise<void> {
  const journals = await readAllJournals(folder)
  const files = new Set([...journals.values()].map(({ file }) => file))
  for (const name of await folder.files())
    if (!name.endsWith('.json') && !files.has(name)) await folder.removeDataFile(name)
}
