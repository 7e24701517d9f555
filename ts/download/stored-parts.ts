/**
 * The parts of a model in its folder. A new version is put together beside the one that is there,
 * and takes its place when all of it is there and checked: until then, and where that fails, the
 * old one stays as it is.
 */

import { FileStore, type StoredPart } from './piece-store.js'
import {
  journalName,
  type ModelFolder,
  nextJournalName,
  readJournal,
  readJournals,
  removeStrays,
} from './storage.js'

/** For the holder of the folder's lock. */
export class StoredParts<P extends StoredPart> {
  /** A store for each part, as they are now. */
  current: readonly FileStore[]
  readonly #parts: readonly P[]
  readonly #folder: ModelFolder
  readonly #pieceBytes: number
  readonly #generation: number
  /** What is to take the place of those that are outdated. */
  readonly #next = new Map<FileStore, FileStore>()

  private constructor(
    folder: ModelFolder,
    parts: readonly P[],
    pieceBytes: number,
    generation: number,
    current: readonly FileStore[],
  ) {
    this.#folder = folder
    this.#parts = parts
    this.#pieceBytes = pieceBytes
    this.#generation = generation
    this.current = current
  }

  /** Those that are there, after ending what an earlier load could not. */
  static async load<P extends StoredPart>(
    folder: ModelFolder,
    parts: readonly P[],
    pieceBytes: number,
  ): Promise<StoredParts<P>> {
    await commit(folder, parts.length)
    await removeLeftovers(folder, parts.length)
    await removeStrays(folder)
    const journals = [...(await readJournals(folder)).values()]
    const generation = Math.max(1, ...journals.map((journal) => journal.generation))
    const stores = await loadAll(folder, parts, pieceBytes, generation)
    return new StoredParts(folder, parts, pieceBytes, generation, stores)
  }

  /** Whether all parts are there, in whatever version. */
  get isComplete(): boolean {
    return this.current.every(({ isComplete }) => isComplete)
  }

  /** Begins, or goes on with, what is to take the place of a part. */
  async replacementOf(store: FileStore): Promise<FileStore> {
    const { part } = store
    const generation = this.#generation + 1
    const next = await FileStore.loadNext(this.#folder, part, this.#pieceBytes, generation)
    this.#next.set(store, next)
    return next
  }

  /** Puts what was begun with `replacementOf`, and is complete, in its place: all at once. */
  async replace(): Promise<void> {
    if (this.#next.size === 0) return
    const folder = this.#folder
    for (const store of this.current)
      if (!this.#next.has(store)) await (await this.replacementOf(store)).adopt(store)
    await commit(folder, this.#parts.length)
    await removeStrays(folder)
    const generation = this.#generation + 1
    this.current = await loadAll(folder, this.#parts, this.#pieceBytes, generation)
  }

  /** Lets go of what only writing needs. */
  async close(): Promise<void> {
    for (const store of [...this.current, ...this.#next.values()]) await store.close()
  }
}

async function loadAll(
  folder: ModelFolder,
  parts: readonly StoredPart[],
  pieceBytes: number,
  generation: number,
): Promise<FileStore[]> {
  const stores: FileStore[] = []
  try {
    for (const part of parts)
      stores.push(await FileStore.load(folder, part, pieceBytes, generation))
    return stores
  } catch (error) {
    for (const store of stores) await store.close()
    throw error
  }
}

/**
 * Makes the replacements of all parts the parts themselves, if all are complete. Where it is broken
 * off, the next call goes on.
 */
async function commit(folder: ModelFolder, parts: number): Promise<void> {
  const texts: string[] = []
  for (let part = 1; part <= parts; part += 1) {
    const next = await readJournal(folder, nextJournalName(part))
    const text = await folder.readText(nextJournalName(part))
    if (next?.isComplete !== true || text === undefined) return
    if ((await folder.sizeOf(next.file)) !== next.version?.size) return
    texts.push(text)
  }
  for (const [i, text] of texts.entries()) await folder.writeText(journalName(i + 1), text)
  for (const i of texts.keys()) await folder.removeText(nextJournalName(i + 1))
}

/** Removes what a commit left that was broken off at its very end, or just before it. */
async function removeLeftovers(folder: ModelFolder, parts: number): Promise<void> {
  for (let part = 1; part <= parts; part += 1) {
    const next = await readJournal(folder, nextJournalName(part))
    const current = await readJournal(folder, journalName(part))
    if (next !== undefined && next.file === current?.file)
      await folder.removeText(nextJournalName(part))
  }
}
