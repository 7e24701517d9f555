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
  /** Without what may be secret in it. */
  url: string
  /** What the model is stored under instead of its address. */
  cacheKey: string | null
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
  /** Whether the complete file was found to be a whole GGUF file. */
  isChecked: boolean
  /** Counts the versions of the model that were stored, from 1: files of two never share a name. */
  generation: number
  /** When the server last said that this is what it has; milliseconds since 1970. */
  confirmedAt: number
  /** Milliseconds since 1970. */
  lastUsed: number
}

/** A journal of this form; others are those of a later or broken version. */
const FORMAT = 1

/** What journals of older releases do not tell. */
const ABSENT = { cacheKey: null, isChecked: false, generation: 1, confirmedAt: 0 }

/** Bytes of a file that are there. */
export function storedBytes(journal: Journal): number {
  const { version, pieceBytes, leadingPieces, laterPieces, isComplete } = journal
  if (isComplete && version !== null) return version.size
  const bytes = (leadingPieces + laterPieces.length) * pieceBytes
  if (version === null) return bytes
  // The last piece is shorter.
  const last = Math.ceil(version.size / pieceBytes) - 1
  const isLastThere = leadingPieces > last || laterPieces.includes(last)
  return isLastThere ? bytes - ((last + 1) * pieceBytes - version.size) : bytes
}

/** Reads what `journalText` wrote; undefined for anything else. */
export function parseJournal(text: string): Journal | undefined {
  try {
    const [line = ''] = text.split('\n', 1)
    const { format, ...journal } = JSON.parse(line) as Journal & { format: number }
    const whole = { ...ABSENT, ...journal }
    return format === FORMAT && isSound(whole) ? whole : undefined
  } catch {
    return undefined
  }
}

/** Whether a journal can be relied on: folders may be written to by others. */
function isSound({ url, parts, file, version, pieceBytes, ...rest }: Journal): boolean {
  const { leadingPieces, laterPieces, isComplete, isChecked, generation, ...times } = rest
  const counts = [parts, pieceBytes, generation, leadingPieces, ...laterPieces, version?.size ?? 0]
  return (
    URL.canParse(url) &&
    isDataFile(file) &&
    (rest.cacheKey === null || typeof rest.cacheKey === 'string') &&
    counts.every((count) => Number.isSafeInteger(count) && count >= 0) &&
    pieceBytes > 0 &&
    typeof isComplete === 'boolean' &&
    typeof isChecked === 'boolean' &&
    typeof times.lastUsed === 'number' &&
    typeof times.confirmedAt === 'number'
  )
}

/** Whether a name is one of a data file in the same folder, and no journal's; or none yet. */
function isDataFile(file: unknown): boolean {
  return typeof file === 'string' && /^(?!\.)[\w.-]*$/.test(file) && !file.endsWith('.json')
}

/** A journal as it is written. */
export function journalText(journal: Journal): string {
  return `${JSON.stringify({ format: FORMAT, ...journal })}\n`
}
