/**
 * A download that is not kept: its pieces are Blobs, which the browser keeps where it likes.
 */

import type { FileVersion } from '../../download/journal.js'
import { type PieceStore, Pieces } from '../../download/piece-store.js'
import { type ByteSource, blobSource } from './byte-source.js'

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

  /** The complete file. */
  open(): ByteSource {
    return blobSource(new Blob(this.#blobs))
  }
}
