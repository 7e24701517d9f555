/**
 * Takes the pieces of a file in any order, and knows which are there.
 */

import { shownUrl } from '../sources/url.js'
import { faultOfFile } from './gguf-file.js'
import { type FileVersion, type Journal, journalText, storedBytes } from './journal.js'
import {
  journalName,
  type ModelFolder,
  nextJournalName,
  readJournal,
  type WritableFile,
} from './storage.js'

/** A file that is being put together. All pieces but the last are of `pieceBytes`. */
export interface PieceStore {
  readonly pieceBytes: number
  /** The version that the pieces belong to; null while there are none. */
  readonly version: FileVersion | null
  readonly isComplete: boolean
  /** Pieces from the first without a gap. */
  readonly leadingPieces: number
  has(piece: number): boolean
  /** Starts anew: what is there is dropped. Null for a size that is not known yet. */
  begin(version: FileVersion | null): Promise<void>
  write(piece: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>
  /** Reads from the pieces that are there. */
  read(offset: number, length: number): Uint8Array | Promise<Uint8Array>
  /** Says that every piece is there, of which version, and that the file was found to be whole. */
  complete(version: FileVersion): Promise<void>
}

/** Which pieces are there. */
export class Pieces {
  leading = 0
  readonly later = new Set<number>()

  add(piece: number): void {
    if (piece >= this.leading) this.later.add(piece)
    while (this.later.delete(this.leading)) this.leading += 1
  }

  has(piece: number): boolean {
    return piece < this.leading || this.later.has(piece)
  }
}

/** Which file a store is for. */
export interface StoredPart {
  url: URL
  /** What the model is stored under instead of its address. */
  cacheKey: string | undefined
  /** Counts from 1. */
  part: number
  /** Parts of the model. */
  parts: number
}

/** The journal of a part of which nothing is there. */
function freshJournal(
  { url, cacheKey, parts }: StoredPart,
  pieceBytes: number,
  generation: number,
): Journal {
  return {
    url: shownUrl(url),
    cacheKey: cacheKey ?? null,
    parts,
    file: '',
    version: null,
    pieceBytes,
    leadingPieces: 0,
    laterPieces: [],
    isComplete: false,
    isChecked: false,
    generation,
    confirmedAt: 0,
    lastUsed: 0,
  }
}

/** A part of a model in its folder. For the holder of the folder's lock. */
export class FileStore implements PieceStore {
  readonly pieceBytes: number
  readonly part: StoredPart
  readonly #folder: ModelFolder
  readonly #journalName: string
  #journal: Journal
  #pieces = new Pieces()
  #handle: WritableFile | undefined
  /** Journals are written one after the other. */
  #written: Promise<void> = Promise.resolve()

  private constructor(
    folder: ModelFolder,
    part: StoredPart,
    journalName: string,
    journal: Journal,
  ) {
    this.part = part
    this.#folder = folder
    this.#journalName = journalName
    this.#journal = journal
    this.pieceBytes = journal.pieceBytes
  }

  /** The part as it is stored, or an empty one of this generation. */
  static async load(
    folder: ModelFolder,
    part: StoredPart,
    pieceBytes: number,
    generation: number,
  ): Promise<FileStore> {
    const name = journalName(part.part)
    return FileStore.#resumed(folder, part, name, freshJournal(part, pieceBytes, generation))
  }

  /** What is to take the part's place, as far as it is there: a file of a generation to come. */
  static async loadNext(
    folder: ModelFolder,
    part: StoredPart,
    pieceBytes: number,
    generation: number,
  ): Promise<FileStore> {
    const name = nextJournalName(part.part)
    const stored = await readJournal(folder, name)
    if (stored !== undefined && stored.generation !== generation) await folder.removeText(name)
    return FileStore.#resumed(folder, part, name, freshJournal(part, pieceBytes, generation))
  }

  static async #resumed(
    folder: ModelFolder,
    part: StoredPart,
    name: string,
    fresh: Journal,
  ): Promise<FileStore> {
    const stored = await readJournal(folder, name)
    const { url, cacheKey } = fresh
    const isMeant =
      stored?.cacheKey === cacheKey && (cacheKey !== null || shownUrl(stored.url) === url)
    const store = new FileStore(folder, part, name, isMeant ? { ...stored, url } : fresh)
    await store.#resume()
    return store
  }

  get version(): FileVersion | null {
    return this.#journal.version
  }

  get isComplete(): boolean {
    return this.#journal.isComplete
  }

  get generation(): number {
    return this.#journal.generation
  }

  /** When the server last said that this is what it has; milliseconds since 1970. */
  get confirmedAt(): number {
    return this.#journal.confirmedAt
  }

  get leadingPieces(): number {
    return this.#pieces.leading
  }

  has(piece: number): boolean {
    return this.#pieces.has(piece)
  }

  async begin(version: FileVersion | null): Promise<void> {
    await this.close()
    const { file: old } = this.#journal
    const { part, url } = this.part
    const file = this.#folder.dataFileName(part, url, this.generation)
    this.#pieces = new Pieces()
    this.#journal = { ...this.#journal, version, file, isComplete: false, isChecked: false }
    const size = version?.size ?? this.pieceBytes
    await this.#writing(size, () => this.#writeJournal())
    if (old !== '') await this.#folder.removeDataFile(old)
    await this.#writing(size, async () => {
      this.#handle = await this.#folder.openForWriting(file)
      // Room is taken up before anything is fetched.
      if (version !== null) await this.#handle.reserve(size, size)
    })
  }

  async write(piece: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const handle = this.#requireHandle()
    const at = piece * this.pieceBytes
    await this.#writing(this.version?.size ?? at + bytes.byteLength, async () => {
      await handle.write(bytes, at)
      this.#pieces.add(piece)
      await this.#writeJournal()
    })
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    return this.#requireHandle().read(offset, length)
  }

  async complete(version: FileVersion): Promise<void> {
    await this.#writing(version.size, async () => {
      await this.#requireHandle().truncate(version.size)
      await this.close()
      const file = await this.#folder.publish(this.#journal.file)
      this.#journal = { ...this.#journal, file, version, isComplete: true, isChecked: true }
      this.confirm()
      await this.#writeJournal()
    })
  }

  /** Notes that the server has this version; written down with the next `use`. */
  confirm(): void {
    this.#journal = { ...this.#journal, confirmedAt: Date.now() }
  }

  /** Takes a complete file of an older generation over as it is. */
  async adopt(older: FileStore): Promise<void> {
    const { part, url } = this.part
    const { generation } = this
    const from = older.#journal
    await this.#writing(from.version?.size ?? 0, async () => {
      const file = await this.#folder.adopt(from.file, part, url, generation)
      this.#journal = { ...from, file, generation }
      this.#pieces = new Pieces()
      await this.#writeJournal()
    })
  }

  /** The name of the complete file, which counts as used now. */
  async use(): Promise<string> {
    // A full disk is no reason not to.
    await this.#writeJournal().catch(() => {})
    return this.#journal.file
  }

  /** Lets go of what only writing needs. Any number of calls. */
  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }

  /** Takes up what the journal tells of, as far as the bytes are really there. */
  async #resume(): Promise<void> {
    const { file, version, leadingPieces, laterPieces, isComplete } = this.#journal
    if (file === '') return
    const size = await this.#folder.sizeOf(file)
    const isSound = isComplete
      ? version !== null && size === version.size && (await this.#isWhole(size))
      : size !== undefined && version !== null
    if (!isSound) {
      this.#journal = { ...this.#journal, version: null, isComplete: false }
      return
    }
    this.#pieces.leading = leadingPieces
    for (const piece of laterPieces) this.#pieces.add(piece)
    if (isComplete || version === null) return
    const missing = version.size - storedBytes(this.#journal)
    await this.#writing(missing, async () => {
      this.#handle = await this.#folder.openForWriting(file)
      await this.#handle.reserve(version.size, missing)
    })
  }

  /** Whether a complete file is one: releases before this one kept some that were cut off. */
  async #isWhole(size: number): Promise<boolean> {
    const { file, isChecked } = this.#journal
    if (isChecked) return true
    const read = (at: number, length: number) => this.#folder.read(file, at, length)
    // One that cannot be read is for the engine to tell of.
    const fault = await faultOfFile(size, read).catch(() => 'unknown')
    this.#journal = { ...this.#journal, isChecked: fault === undefined }
    return fault === undefined || fault === 'unknown'
  }

  /** Writes, with the folder's word on what went wrong. */
  async #writing(neededBytes: number, write: () => Promise<void>): Promise<void> {
    try {
      await write()
    } catch (error) {
      throw await this.#folder.writeError(error, this.#journal.url, neededBytes)
    }
  }

  #requireHandle(): WritableFile {
    if (this.#handle === undefined) throw new Error('the store is not open for writing')
    return this.#handle
  }

  #writeJournal(): Promise<void> {
    this.#journal = {
      ...this.#journal,
      leadingPieces: this.#pieces.leading,
      laterPieces: [...this.#pieces.later],
      lastUsed: Date.now(),
    }
    const text = journalText(this.#journal)
    this.#written = this.#written
      .catch(() => {})
      .then(() => this.#folder.writeText(this.#journalName, text))
    return this.#written
  }
}
