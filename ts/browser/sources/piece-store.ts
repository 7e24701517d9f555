/**
 * Takes the pieces of a file in any order and gives the file back: in the origin's private file
 * system, where they outlast the page, or in a Blob, which the browser keeps where it likes.
 */

import { type ByteSource, blobSource, handleSource, readHandle } from './byte-source.js'
import { type FileVersion, type Journal, readJournal, writeJournal } from './journal.js'
import { lock, readerLock } from './locks.js'
import { journalName, removeDataFile, storageFull } from './storage.js'

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
  read(offset: number, length: number): Uint8Array<ArrayBuffer>
  /** Says that every piece is there, and of which version. */
  complete(version: FileVersion): Promise<void>
  /** Opens the complete file. */
  open(): Promise<ByteSource>
  /** Lets go of what only writing needs. Any number of calls. */
  close(): void
}

/** Name of the error of a write without room. */
const QUOTA = 'QuotaExceededError'

/** Which pieces are there. */
class Pieces {
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

/** A part of a model in the origin's private file system. For the holder of the writer's lock. */
export class FileStore implements PieceStore {
  readonly pieceBytes: number
  readonly #folder: FileSystemDirectoryHandle
  readonly #journalName: string
  readonly #url: string
  #journal: Journal
  #pieces = new Pieces()
  #handle: FileSystemSyncAccessHandle | undefined
  /** Journals are written one after the other. */
  #written: Promise<void> = Promise.resolve()

  private constructor(
    folder: FileSystemDirectoryHandle,
    part: number,
    journal: Journal,
    pieceBytes: number,
  ) {
    this.#folder = folder
    this.#journalName = journalName(part)
    this.#url = journal.url
    this.#journal = journal
    this.pieceBytes = pieceBytes
  }

  /** The part as it is stored, or an empty one. */
  static async load(
    folder: FileSystemDirectoryHandle,
    { url, part, parts, pieceBytes }: { url: URL; part: number; parts: number; pieceBytes: number },
  ): Promise<FileStore> {
    const fresh: Journal = {
      url: url.href,
      parts,
      file: '',
      version: null,
      pieceBytes,
      leadingPieces: 0,
      laterPieces: [],
      isComplete: false,
      lastUsed: 0,
    }
    const stored = await readJournal(folder, journalName(part))
    const journal = stored?.url === url.href ? stored : fresh
    const store = new FileStore(folder, part, journal, journal.pieceBytes)
    await store.#resume()
    return store
  }

  get version(): FileVersion | null {
    return this.#journal.version
  }

  get isComplete(): boolean {
    return this.#journal.isComplete
  }

  get leadingPieces(): number {
    return this.#pieces.leading
  }

  has(piece: number): boolean {
    return this.#pieces.has(piece)
  }

  async begin(version: FileVersion | null): Promise<void> {
    this.close()
    const { file: old } = this.#journal
    const file = `${parseInt(this.#journalName, 10)}-${crypto.randomUUID().slice(0, 8)}.gguf`
    this.#pieces = new Pieces()
    this.#journal = { ...this.#journal, version, file, isComplete: false }
    await this.#orFull(version?.size ?? this.pieceBytes, () => this.#writeJournal())
    if (old !== '') await removeDataFile(this.#folder, old)
    const handle = await this.#openForWriting()
    // Takes up the room before anything is fetched. The file stays without blocks until it is written.
    if (version !== null) await this.#orFull(version.size, () => handle.truncate(version.size))
  }

  async write(piece: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const handle = this.#requireHandle()
    const at = piece * this.pieceBytes
    await this.#orFull(this.version?.size ?? at + bytes.byteLength, () => {
      const count = handle.write(bytes, { at })
      if (count !== bytes.byteLength) throw new DOMException('a short write', QUOTA)
      handle.flush()
      this.#pieces.add(piece)
      return this.#writeJournal()
    })
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return readHandle(this.#requireHandle(), offset, length)
  }

  async complete(version: FileVersion): Promise<void> {
    this.#requireHandle().truncate(version.size)
    this.close()
    this.#journal = { ...this.#journal, version, isComplete: true }
    await this.#orFull(version.size, () => this.#writeJournal())
  }

  async open(): Promise<ByteSource> {
    const { file } = this.#journal
    // Says when it was last used; a full disk is no reason not to.
    await this.#writeJournal().catch(() => {})
    const release = await lock(readerLock(this.#folder.name, file), 'shared')
    try {
      const entry = await this.#folder.getFileHandle(file)
      const handle = await openForReading(entry)
      if (handle !== undefined) return handleSource(handle, release)
      return blobSource(await entry.getFile(), release)
    } catch (error) {
      release()
      throw error
    }
  }

  close(): void {
    this.#handle?.close()
    this.#handle = undefined
  }

  /** Takes up what the journal tells of, as far as the bytes are really there. */
  async #resume(): Promise<void> {
    const { file, version, leadingPieces, laterPieces, isComplete } = this.#journal
    if (file === '') return
    const entry = await this.#folder.getFileHandle(file).catch(() => undefined)
    const size = (await entry?.getFile())?.size
    const isSound = isComplete ? size === version?.size : size !== undefined && version !== null
    if (!isSound) {
      this.#journal = { ...this.#journal, version: null, isComplete: false }
      return
    }
    this.#pieces.leading = leadingPieces
    for (const piece of laterPieces) this.#pieces.add(piece)
    if (!isComplete) await this.#openForWriting()
  }

  async #openForWriting(): Promise<FileSystemSyncAccessHandle> {
    const entry = await this.#folder.getFileHandle(this.#journal.file, { create: true })
    this.#handle = await entry.createSyncAccessHandle()
    return this.#handle
  }

  /** Writes, with STORAGE_FULL as the error of a write that found no room. */
  async #orFull(neededBytes: number, write: () => void | Promise<void>): Promise<void> {
    try {
      await write()
    } catch (error) {
      if ((error as DOMException).name !== QUOTA) throw error
      throw await storageFull(this.#url, neededBytes, error)
    }
  }

  #requireHandle(): FileSystemSyncAccessHandle {
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
    this.#written = this.#written
      .catch(() => {})
      .then(() => writeJournal(this.#folder, this.#journalName, this.#journal))
    return this.#written
  }
}

/**
 * An open handle for reading, or undefined where the browser gives a file to one reader alone
 * and somebody else has it: its Blob can be read all the same.
 */
async function openForReading(
  entry: FileSystemFileHandle,
): Promise<FileSystemSyncAccessHandle | undefined> {
  try {
    // `mode` is of the standard, but not of every browser, which then ignores it.
    const open = entry.createSyncAccessHandle as (options: {
      mode: 'read-only'
    }) => Promise<FileSystemSyncAccessHandle>
    return await open.call(entry, { mode: 'read-only' })
  } catch {
    return undefined
  }
}

/** A file that is kept only as long as somebody has it open. */
export class BlobStore implements PieceStore {
  readonly isComplete = false
  version: FileVersion | null = null
  readonly #reader = new FileReaderSync()
  #pieces = new Pieces()
  #blobs: Blob[] = []

  constructor(readonly pieceBytes: number) {}

  get leadingPieces(): number {
    return this.#pieces.leading
  }

  has(piece: number): boolean {
    return this.#pieces.has(piece)
  }

  async begin(version: FileVersion | null): Promise<void> {
    this.version = version
    this.#pieces = new Pieces()
    this.#blobs = []
  }

  async write(piece: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#blobs[piece] = new Blob([bytes])
    this.#pieces.add(piece)
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const first = Math.floor(offset / this.pieceBytes)
    const last = Math.ceil((offset + length) / this.pieceBytes)
    const from = offset - first * this.pieceBytes
    const blob = new Blob(this.#blobs.slice(first, last)).slice(from, from + length)
    return new Uint8Array(this.#reader.readAsArrayBuffer(blob))
  }

  async complete(version: FileVersion): Promise<void> {
    this.version = version
  }

  async open(): Promise<ByteSource> {
    return blobSource(new Blob(this.#blobs))
  }

  close(): void {}
}
