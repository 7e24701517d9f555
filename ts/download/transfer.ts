/**
 * Brings one file into a PieceStore: by ranges side by side where the server has them, else as
 * one stream. What is there already is not asked for again, as long as it is of the same version.
 */

import { aborted } from '../sources/model-source.js'
import { Checksum } from './checksum.js'
import type { NetworkPlatform } from './context.js'
import { faultOfFile, faultOfStart } from './gguf-file.js'
import type { FileVersion } from './journal.js'
import type { PieceStore } from './piece-store.js'
import {
  Changed,
  differs,
  type FetchPolicy,
  failed,
  firstAnswer,
  type Hub,
  isWeak,
  readBody,
  request,
  retrying,
  Transient,
  versionOf,
} from './requests.js'

/** How often a file may change while it is being downloaded. */
const MAX_RESTARTS = 3

/** What came is not the file that was meant, and nothing of it is to be kept. */
class WrongFile extends Error {}

/** The same version, and no more of its ranges. */
class RangesGone extends Changed {}

/** One file to fetch. */
export interface Transfer {
  url: URL
  store: PieceStore
  /** What the hub says of the file; undefined where it does not. */
  expected: { sizeBytes: number | undefined; sha256: string | undefined }
  policy: FetchPolicy
  hub: Hub
  headers: Readonly<Record<string, string>> | undefined
  platform: NetworkPlatform
  signal: AbortSignal | undefined
  /** Called as bytes arrive; 0 for a total that is not known. */
  onBytes: (receivedBytes: number, totalBytes: number) => void
}

/**
 * Fetches what is missing, and checks it.
 * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, ABORTED
 */
export async function transfer(job: Transfer): Promise<void> {
  let hasRanges = true
  for (let restarts = 0; ; restarts += 1) {
    try {
      return await new Attempt(job, hasRanges).run()
    } catch (error) {
      if (error instanceof WrongFile) {
        await job.store.begin(null)
        throw failed(job.url, error.message)
      }
      if (!(error instanceof Changed)) throw error
      if (restarts === MAX_RESTARTS) throw failed(job.url, `it keeps changing: ${error.message}`)
      if (error instanceof RangesGone) hasRanges = false
      await job.store.begin(null)
    }
  }
}

/** From the state of the store to the complete file, unless the server's file changes. */
class Attempt {
  readonly #job: Transfer
  readonly #hasRanges: boolean
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  #checksum: Checksum
  /** Pieces end in any order; their bytes are taken in turn. */
  #checksumTurn: Promise<void> = Promise.resolve()
  /** What the server said about the file's checksum. */
  #sha256: string | undefined
  #receivedBytes = 0
  /** Pieces that nobody has been given yet begin here. */
  #nextPiece = 0

  /** @param hasRanges whether the server is believed to serve parts of the file */
  constructor(job: Transfer, hasRanges: boolean) {
    this.#job = job
    this.#hasRanges = hasRanges
    this.#checksum = new Checksum(job.platform.createHash())
    this.#sha256 = job.expected.sha256
    const { signal } = this.#stop
    this.#signal = job.signal === undefined ? signal : AbortSignal.any([job.signal, signal])
  }

  async run(): Promise<void> {
    const { store, url } = this.#job
    let first: Response | undefined
    if (store.version === null) {
      first = await firstAnswer(url, this.#job.policy, this.#signal, () => this.#requestRange(0))
      const version = first.status === 206 ? await this.#wholeVersion(first) : null
      if (version === null || !this.#canCombine(version)) return this.#stream(first)
      this.#requireExpectedSize(version.size)
      await store.begin(version)
    }
    await this.#pieces(store.version as FileVersion, first)
    await this.#complete(store.version as FileVersion)
  }

  /** Whether parts of several answers of a version are of the same bytes. */
  #canCombine({ etag, lastModified }: FileVersion): boolean {
    if (!this.#hasRanges) return false
    // A weak ETag alone does not say so.
    return etag === null || !isWeak(etag) || lastModified !== null || this.#sha256 !== undefined
  }

  /** The version that the first range is of; null where its size stays hidden. */
  async #wholeVersion(first: Response): Promise<FileVersion | null> {
    const said = versionOf(first)
    if (said.size !== null) return said as FileVersion
    // Servers may hide Content-Range from pages of other origins, but never Content-Length.
    const { size } = await this.#request({ method: 'HEAD' }).then(versionOf, () => ({ size: null }))
    if (size !== null) return { ...said, size }
    await first.body?.cancel().catch(() => {})
    return null
  }

  /** All missing pieces, several at a time. */
  async #pieces(version: FileVersion, first: Response | undefined): Promise<void> {
    const { store, policy } = this.#job
    const count = Math.ceil(version.size / store.pieceBytes)
    for (let piece = 0; piece < count; piece += 1)
      if (store.has(piece)) this.#receivedBytes += pieceRange(store, version, piece).length
    this.#report(0)
    let early = first
    const workers = Array.from({ length: policy.parallel }, async () => {
      for (let piece = this.#takePiece(count); piece < count; piece = this.#takePiece(count)) {
        const answer = piece === 0 ? early : undefined
        early = undefined
        await this.#fetchPiece(version, piece, answer)
      }
    })
    try {
      await Promise.all(workers)
    } catch (error) {
      this.#stop.abort()
      await Promise.allSettled(workers)
      throw this.#job.signal?.aborted ? aborted(error) : error
    }
  }

  #takePiece(count: number): number {
    while (this.#nextPiece < count && this.#job.store.has(this.#nextPiece)) this.#nextPiece += 1
    return this.#nextPiece++
  }

  /** One piece, going on where the last try broke off. */
  async #fetchPiece(version: FileVersion, piece: number, first?: Response): Promise<void> {
    const { store, url, policy } = this.#job
    const { offset, length } = pieceRange(store, version, piece)
    const bytes = new Uint8Array(length)
    let filled = 0
    let filledBefore = 0
    let early = first
    const task = async () => {
      filledBefore = filled
      const response = early ?? (await this.#requestRange(offset + filled, offset + length))
      early = undefined
      await this.#requireSame(version, response, offset + filled)
      for await (const part of readBody(response, this.#signal, policy.stallMs)) {
        const wanted = part.subarray(0, length - filled)
        bytes.set(wanted, filled)
        filled += wanted.byteLength
        this.#report(wanted.byteLength)
        if (filled === length) break
      }
      if (filled < length)
        throw new Transient(`bytes ${offset}-${offset + length}: expected ${length}, got ${filled}`)
    }
    await retrying(url, policy, this.#signal, task, () => filled > filledBefore)
    await this.#store(piece, bytes)
    await this.#advanceChecksum(version.size)
  }

  /** Stores a piece. A page of a login in place of a model is known by its first bytes. */
  async #store(piece: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const fault = piece === 0 ? faultOfStart(bytes) : undefined
    if (fault !== undefined) throw new WrongFile(fault)
    await this.#job.store.write(piece, bytes)
  }

  /** The whole file from one answer: no part of it can be asked for again. */
  async #stream(first: Response): Promise<void> {
    const { url, policy } = this.#job
    let early: Response | undefined = first.status === 206 ? undefined : first
    let size = 0
    await retrying(url, policy, this.#signal, async () => {
      const response = early ?? (await this.#request({}))
      early = undefined
      size = await this.#storeStream(response)
    })
    const { etag, lastModified } = versionOf(first)
    await this.#complete({ size, etag, lastModified })
  }

  /** Stores a body piece by piece. Returns its size. */
  async #storeStream(response: Response): Promise<number> {
    const { store, policy, expected } = this.#job
    const { size: said } = versionOf(response)
    if (said !== null) this.#requireExpectedSize(said)
    await store.begin(null)
    this.#receivedBytes = 0
    this.#checksum = new Checksum(this.#job.platform.createHash())
    const total = said ?? expected.sizeBytes ?? 0
    const piece = new Uint8Array(store.pieceBytes)
    let filled = 0
    const flush = async () => {
      await this.#store(store.leadingPieces, piece.slice(0, filled))
      filled = 0
      await this.#advanceChecksum(this.#receivedBytes)
    }
    for await (const part of readBody(response, this.#signal, policy.stallMs)) {
      for (let at = 0; at < part.byteLength; ) {
        const count = Math.min(part.byteLength - at, piece.byteLength - filled)
        piece.set(part.subarray(at, at + count), filled)
        at += count
        filled += count
        this.#report(count, total)
        if (filled === piece.byteLength) await flush()
      }
    }
    if (filled > 0) await flush()
    if (total > 0 && this.#receivedBytes !== total)
      throw new Transient(`expected ${total} bytes, received ${this.#receivedBytes}`)
    // Nobody said how long it is but the file itself.
    const fault = total === 0 ? await this.#fault(this.#receivedBytes) : undefined
    if (fault !== undefined) throw new Transient(fault)
    return this.#receivedBytes
  }

  /** Checks the whole and says that it is there. */
  async #complete(version: FileVersion): Promise<void> {
    const fault = await this.#fault(version.size)
    if (fault !== undefined) throw new WrongFile(fault)
    if (this.#sha256 !== undefined) {
      await this.#advanceChecksum(version.size)
      const found = this.#checksum.digest()
      if (found !== this.#sha256)
        throw new WrongFile(`its SHA-256 is ${found}, expected ${this.#sha256}`)
    }
    await this.#job.store.complete(version)
  }

  /** What is wrong with the file in the store, by its header. */
  async #fault(size: number): Promise<string | undefined> {
    return faultOfFile(size, (at, length) => this.#job.store.read(at, length))
  }

  /** Takes the checksum as far as there is no gap, where one is known to compare with. */
  #advanceChecksum(size: number): Promise<void> {
    this.#checksumTurn = this.#checksumTurn.then(() => {
      if (this.#sha256 === undefined) return
      const { store } = this.#job
      const end = Math.min(store.leadingPieces * store.pieceBytes, size)
      return this.#checksum.advance(end, (at, length) => store.read(at, length), this.#signal)
    })
    return this.#checksumTurn
  }

  #requestRange(offset: number, end = offset + this.#job.store.pieceBytes): Promise<Response> {
    const { store, platform } = this.#job
    const etag = store.version?.etag ?? null
    const isSure = etag !== null && !isWeak(etag) && platform.hasConditionalRanges
    const range = `bytes=${offset}-${end - 1}`
    return this.#request({ headers: { range, ...(isSure && { 'if-range': etag }) } })
  }

  async #request(init: Parameters<typeof request>[1]): Promise<Response> {
    const { url, hub, headers, platform, policy } = this.#job
    const response = await request(url, init, {
      platform,
      hub,
      headers,
      signal: this.#signal,
      stallMs: policy.stallMs,
    })
    const linked = response.headers.get('x-linked-etag')?.replaceAll('"', '')
    if (linked !== undefined && /^[0-9a-f]{64}$/.test(linked)) this.#sha256 ??= linked
    return response
  }

  /** That an answer is of the version and the place it is to go to. */
  async #requireSame(version: FileVersion, response: Response, offset: number): Promise<void> {
    const said = versionOf(response)
    let problem: Error | undefined
    if (differs(version, said))
      problem = new Changed(`was ${JSON.stringify(version)}, is ${JSON.stringify(said)}`)
    else if (response.status !== 206) problem = new RangesGone('ranges are no longer served')
    else if ((startOf(response) ?? offset) !== offset)
      problem = new Transient(`asked for bytes from ${offset}, got them from ${startOf(response)}`)
    if (problem === undefined) return
    await response.body?.cancel().catch(() => {})
    throw problem
  }

  #requireExpectedSize(size: number): void {
    const { url, expected } = this.#job
    if (expected.sizeBytes === undefined || expected.sizeBytes === size) return
    throw failed(url, `the server has ${size} bytes, the hub's list says ${expected.sizeBytes}`)
  }

  #report(newBytes: number, totalBytes = this.#job.store.version?.size ?? 0): void {
    this.#receivedBytes += newBytes
    this.#job.onBytes(this.#receivedBytes, totalBytes)
  }
}

/** Where a piece lies in the file. */
function pieceRange(store: PieceStore, version: FileVersion, piece: number) {
  const offset = piece * store.pieceBytes
  return { offset, length: Math.min(store.pieceBytes, version.size - offset) }
}

/** First byte of a range that was served; undefined where the header is hidden. */
function startOf(response: Response): number | undefined {
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1]
  return start === undefined ? undefined : Number(start)
}
