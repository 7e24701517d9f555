/**
 * What is known about a stored file: a small file of JSON beside it, from which a download goes
 * on after a reload. It is written whole after every piece; only its first line counts, so that
 * one that was cut off while being written either reads as it was or not at all.
 */

/** By what two answers of a server are known to be of the same file. */
export interface FileVersion {
  /** Bytes of the whole file. */
  size: number
  etag: string | null
  lastModified: string | null
}

/** A stored file, whole or in part. */
export interface Journal {
  url: string
  /** Parts of the model that the file belongs to. */
  parts: number
  /** Name of the file with the bytes. */
  file: string
  /** What the server said; null until it has. */
  version: FileVersion | null
  pieceBytes: number
  /** Pieces that are there, from the first without a gap. */
  leadingPieces: number
  /** Numbers of pieces that are there beyond the first gap. */
  laterPieces: number[]
  isComplete: boolean
  /** Milliseconds since 1970. */
  lastUsed: number
}

/** A journal of this form; others are those of a later or broken version. */
const FORMAT = 1

/** Bytes of a file that are there. */
export function storedBytes(journal: Journal): number {
  const { version, pieceBytes, leadingPieces, laterPieces, isComplete } = journal
  if (isComplete && version !== null) return version.size
  const bytes = (leadingPieces + laterPieces.length) * pieceBytes
  return version === null ? bytes : Math.min(bytes, version.size)
}

/** The journal of a file, or undefined if there is none that can be read. */
export async function readJournal(
  folder: FileSystemDirectoryHandle,
  name: string,
): Promise<Journal | undefined> {
  for (let tries = 0; tries < 5; tries += 1) {
    try {
      const handle = await folder.getFileHandle(name)
      const [line = ''] = (await (await handle.getFile()).text()).split('\n', 1)
      const { format, ...journal } = JSON.parse(line) as Journal & { format: number }
      return format === FORMAT ? journal : undefined
    } catch (error) {
      // Written to between being opened and being read, by a download in another tab.
      if ((error as DOMException).name !== 'NotReadableError') return undefined
    }
  }
  return undefined
}

/** Writes the journal of a file. Only in a dedicated worker, by the holder of the writer's lock. */
export async function writeJournal(
  folder: FileSystemDirectoryHandle,
  name: string,
  journal: Journal,
): Promise<void> {
  const bytes = new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, ...journal })}\n`)
  const file = await folder.getFileHandle(name, { create: true })
  const handle = await file.createSyncAccessHandle()
  try {
    handle.write(bytes, { at: 0 })
    handle.truncate(bytes.byteLength)
    handle.flush()
  } finally {
    handle.close()
  }
}
