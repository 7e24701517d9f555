/**
 * Tells how far a download has come, a few times a second.
 */

import type { FetchContext } from '../sources/model-source.js'
import { storedBytes } from './journal.js'
import { type ModelFolder, readJournals } from './storage.js'

/** Milliseconds between two reports: often enough to look steady. */
const INTERVAL_MS = 100

/** Milliseconds between two looks at a download of somebody else. */
const FOLLOW_MS = 250

type OnProgress = FetchContext['onProgress']

/** Progress of one model, over all its parts. */
export class DownloadProgress {
  readonly #parts: number
  readonly #onProgress: OnProgress
  #endedParts = 0
  #endedBytes = 0
  #reported = 0

  constructor(parts: number, onProgress: OnProgress) {
    this.#parts = parts
    this.#onProgress = onProgress
  }

  /** Bytes of the part under way; 0 for a total that is not known. */
  report(receivedBytes: number, totalBytes: number): void {
    const isLast = receivedBytes === totalBytes
    const now = performance.now()
    if (now - this.#reported < INTERVAL_MS && !isLast) return
    this.#reported = now
    const share = totalBytes > 0 ? Math.min(1, receivedBytes / totalBytes) : 0
    this.#onProgress?.({
      stage: 'download',
      fraction: (this.#endedParts + share) / this.#parts,
      receivedBytes: this.#endedBytes + receivedBytes,
      // Parts to come have not said how long they are.
      ...(totalBytes > 0 && this.#parts === 1 && { totalBytes }),
    })
  }

  /** A part is there, of so many bytes. */
  endPart(bytes: number): void {
    this.#endedParts += 1
    this.#endedBytes += bytes
    this.#onProgress?.({
      stage: 'download',
      fraction: this.#endedParts / this.#parts,
      receivedBytes: this.#endedBytes,
      ...(this.#endedParts === this.#parts && { totalBytes: this.#endedBytes }),
    })
  }
}

/**
 * Passes on how far somebody else has come with a model of so many parts, as its journals tell.
 * @returns what ends it
 */
export function followProgress(
  folder: ModelFolder,
  parts: number,
  onProgress: OnProgress,
): () => void {
  if (onProgress === undefined) return () => {}
  let isFollowed = true
  const look = async () => {
    const journals = [...(await readJournals(folder)).values()]
    if (!isFollowed) return
    const shares = journals.map((journal) => storedBytes(journal) / (journal.version?.size || 1))
    const receivedBytes = journals.reduce((sum, journal) => sum + storedBytes(journal), 0)
    const totalBytes = parts === 1 ? journals[0]?.version?.size : undefined
    onProgress({
      stage: 'download',
      fraction: shares.reduce((sum, share) => sum + Math.min(1, share), 0) / parts,
      receivedBytes,
      ...(totalBytes !== undefined && { totalBytes }),
    })
  }
  // A folder that cannot be read just now tells the next time.
  const tryToLook = () => void look().catch(() => {})
  const timer = setInterval(tryToLook, FOLLOW_MS)
  tryToLook()
  return () => {
    isFollowed = false
    clearInterval(timer)
  }
}
