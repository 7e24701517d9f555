/**
 * Tells how far a download has come: the caller, a few times a second, and other tabs that wait
 * for the same file.
 */

import type { LoadProgress } from '../../reports.js'
import type { SourceContext } from './context.js'

/** Milliseconds between two reports: often enough to look steady. */
const INTERVAL_MS = 100

/** Progress of one model, over all its parts. */
export class DownloadProgress {
  readonly #parts: number
  readonly #onProgress: SourceContext['onProgress']
  readonly #channel: BroadcastChannel | undefined
  #endedParts = 0
  #endedBytes = 0
  #reported = 0

  /** @param folder whose followers hear of it; undefined for nobody */
  constructor(folder: string | undefined, parts: number, { onProgress }: SourceContext) {
    this.#parts = parts
    this.#onProgress = onProgress
    this.#channel = folder === undefined ? undefined : new BroadcastChannel(`realm:${folder}`)
  }

  /** Passes on what the tab says that is downloading. */
  follow(): void {
    this.#channel?.addEventListener('message', ({ data }) => this.#onProgress?.(data))
  }

  /** Bytes of the part under way; 0 for a total that is not known. */
  report(receivedBytes: number, totalBytes: number): void {
    const isLast = receivedBytes === totalBytes
    const now = performance.now()
    if (now - this.#reported < INTERVAL_MS && !isLast) return
    this.#reported = now
    const share = totalBytes > 0 ? Math.min(1, receivedBytes / totalBytes) : 0
    this.#send({
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
    this.#send({
      stage: 'download',
      fraction: this.#endedParts / this.#parts,
      receivedBytes: this.#endedBytes,
      ...(this.#endedParts === this.#parts && { totalBytes: this.#endedBytes }),
    })
  }

  close(): void {
    this.#channel?.close()
  }

  #send(progress: LoadProgress): void {
    this.#onProgress?.(progress)
    this.#channel?.postMessage(progress)
  }
}
