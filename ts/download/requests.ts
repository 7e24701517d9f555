/**
 * Requests to servers that may be slow, busy or gone: what an answer says about a file, which
 * failures are worth another try, and when.
 */

import { RealmError } from '../errors.js'
import { isOfHub } from '../sources/hub.js'
import { aborted } from '../sources/model-source.js'
import { shownUrl } from '../sources/url.js'
import type { NetworkPlatform } from './context.js'
import type { FileVersion } from './journal.js'

/** How a download behaves; the defaults suit models of gigabytes. */
export interface FetchPolicy {
  /** Bytes asked for at once. */
  pieceBytes: number
  /** Requests under way at once. */
  parallel: number
  /** Failures in a row, without a byte in between, after which a download is given up. */
  attempts: number
  /** Wait after the first failure; it doubles with each. */
  backoffMs: number
  /** A connection that is silent for so long counts as failed. */
  stallMs: number
}

/** What is used unless told otherwise. */
export const DEFAULT_POLICY: FetchPolicy = {
  pieceBytes: 4 << 20,
  parallel: 4,
  attempts: 7,
  backoffMs: 500,
  stallMs: 30_000,
}

/** A hub, and what to show it. */
export interface Hub {
  endpoint: string
  token: string | undefined
}

/** A failure that another try may mend. */
export class Transient extends Error {
  constructor(
    message: string,
    readonly waitMs = 0,
    cause?: unknown,
  ) {
    super(message, { cause })
  }
}

/** Nobody answered, or the connection broke. */
class Unreachable extends Transient {}

/** The server has another version of the file than the one that was begun. */
export class Changed extends Error {}

/** Answers of a server that is busy rather than unwilling. */
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504])

/** What a request needs to know. */
export interface RequestContext {
  platform: NetworkPlatform
  hub: Hub
  /** Headers of the caller's. */
  headers?: Readonly<Record<string, string>> | undefined
  signal: AbortSignal | undefined
  /** Milliseconds until the headers must be there. */
  stallMs: number
}

/** Asks once. Throws Transient, or RealmError DOWNLOAD_FAILED or ABORTED. */
export async function request(
  url: URL,
  init: { method?: string; headers?: Record<string, string> },
  { platform, hub, headers: given, signal, stallMs }: RequestContext,
): Promise<Response> {
  const headers = new Headers(given)
  // Bytes as they are: a length that counts compressed ones would not match.
  headers.set('accept-encoding', 'identity')
  for (const [name, value] of Object.entries(init.headers ?? {})) headers.set(name, value)
  if (hub.token !== undefined && isOfHub(hub.endpoint, url) && !headers.has('authorization'))
    headers.set('authorization', `Bearer ${hub.token}`)
  const late = AbortSignal.timeout(stallMs)
  // The headers' deadline is not one for the body: `readBody` has its own.
  const stop = new AbortController()
  const onLate = () => stop.abort(late.reason)
  late.addEventListener('abort', onLate)
  const signals = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  let response: Response
  try {
    response = await platform.fetch(url, { ...init, headers, signal: signals })
  } catch (error) {
    throw networkFailure(error, signal)
  } finally {
    late.removeEventListener('abort', onLate)
  }
  if (response.ok) return response
  await response.body?.cancel().catch(() => {})
  const answered = `the server answered ${response.status} ${response.statusText}`.trim()
  const text = isOfHub(hub.endpoint, url) ? withHubsWord(answered, response, hub) : answered
  // A range that is there no more: the file has become shorter.
  if (response.status === 416 && !headers.get('range')?.startsWith('bytes=0-'))
    throw new Changed(text)
  if (!BUSY.has(response.status)) throw failed(url, text)
  const seconds = Number(response.headers.get('retry-after') ?? 0)
  throw new Transient(text, Number.isFinite(seconds) ? Math.min(seconds, 60) * 1000 : 0)
}

/** What a hub says of a refusal, and what may help. */
function withHubsWord(answered: string, { status, headers }: Response, { token }: Hub): string {
  const word = headers.get('x-error-message')
  const text = word === null ? answered : `${answered}: ${word}`
  if (status !== 401 && status !== 403) return text
  const advice =
    token === undefined
      ? 'a model that is not public needs a token: the option hubToken, or HF_TOKEN in Node'
      : 'the token that was sent does not open it'
  return `${text.replace(/\.$/, '')}; ${advice}`
}

/** Hands out the parts of a body. Throws Transient when it breaks off or falls silent. */
export async function* readBody(
  response: Response,
  signal: AbortSignal | undefined,
  stallMs: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  try {
    for (;;) {
      // A body that is cancelled ends as one that is whole, so it is said why it ended.
      let isSilent = false
      const cancelled = whenSilent(stallMs, () => {
        isSilent = true
        reader.cancel().catch(() => {})
      })
      const { done, value } = await reader.read().finally(cancelled)
      if (isSilent) throw new Transient('the server fell silent')
      if (value !== undefined) yield value
      if (done) return
    }
  } catch (error) {
    throw error instanceof Transient ? error : networkFailure(error, signal)
  } finally {
    reader.cancel().catch(() => {})
  }
}

/** The value in a body of JSON; undefined where it is no JSON. */
export async function readJson(
  response: Response,
  { signal, stallMs }: Pick<RequestContext, 'signal' | 'stallMs'>,
): Promise<unknown> {
  const parts: Uint8Array<ArrayBuffer>[] = []
  for await (const part of readBody(response, signal, stallMs)) parts.push(part)
  const text = await new Blob(parts).text()
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What came while this thread was busy may take so long to be seen. */
const GRACE_MS = 20

/** Calls `stop` when so much time has passed. Returns what prevents it. */
function whenSilent(stallMs: number, stop: () => void): () => void {
  let timer = setTimeout(() => {
    timer = setTimeout(stop, GRACE_MS)
  }, stallMs)
  return () => clearTimeout(timer)
}

/** Tries until it succeeds, or fails for good; `hasProgress` says whether to count anew. */
export async function retrying<T>(
  url: URL,
  { attempts, backoffMs }: FetchPolicy,
  signal: AbortSignal | undefined,
  task: () => Promise<T>,
  hasProgress: () => boolean = () => false,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await task()
    } catch (error) {
      if (!(error instanceof Transient)) throw error
      failures = hasProgress() ? 1 : failures + 1
      if (failures >= attempts) throw failed(url, error.message, error)
      await pause(Math.max(error.waitMs, backoffMs * 2 ** (failures - 1)), signal)
    }
  }
}

/** How often a server is asked that has never answered: rather than busy, it may not be there. */
const UNANSWERED_ATTEMPTS = 3

/** The first answer of a server. Tries as `retrying` does, but less often where nobody answers. */
export function firstAnswer<T>(
  url: URL,
  policy: FetchPolicy,
  signal: AbortSignal | undefined,
  ask: () => Promise<T>,
): Promise<T> {
  let unanswered = 0
  return retrying(url, policy, signal, async () => {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof Unreachable) unanswered += 1
      if (unanswered < UNANSWERED_ATTEMPTS || !(error instanceof Error)) throw error
      throw failed(url, error.message, error)
    }
  })
}

/** What an answer says about the file that it is of, or a part of. */
export function versionOf(response: Response): Omit<FileVersion, 'size'> & { size: number | null } {
  const range = /^bytes \d+-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]
  const isEncoded = (response.headers.get('content-encoding') ?? 'identity') !== 'identity'
  const length =
    response.status === 206 || isEncoded ? null : response.headers.get('content-length')
  const size = range ?? length
  return {
    size: size === null ? null : Number(size),
    etag: response.headers.get('etag'),
    lastModified: response.headers.get('last-modified'),
  }
}

/** Whether what an answer says contradicts a version. Headers that a page may not see are null. */
export function differs(
  known: FileVersion,
  { size, etag, lastModified }: ReturnType<typeof versionOf>,
): boolean {
  if (size !== null && size !== known.size) return true
  if (etag !== null && known.etag !== null) {
    if (opaque(etag) !== opaque(known.etag)) return true
    // The same weak one is of files that mean the same, and may have other bytes.
    if (!isWeak(etag) && !isWeak(known.etag)) return false
  }
  if (lastModified !== null && known.lastModified !== null)
    return lastModified !== known.lastModified
  return false
}

/** Whether an ETag says that other bytes may have the same. */
export function isWeak(etag: string): boolean {
  return etag.startsWith('W/')
}

function opaque(etag: string): string {
  return etag.replace(/^W\//, '')
}

export function failed(url: URL, reason: string, cause?: unknown): RealmError {
  return new RealmError('DOWNLOAD_FAILED', `${shownUrl(url)}: ${reason}`, { cause })
}

function networkFailure(error: unknown, signal: AbortSignal | undefined): Error {
  if (signal?.aborted) return aborted(error)
  if (error instanceof RealmError) return error
  // Node says "fetch failed" and tells why in the cause.
  const reason = error instanceof Error ? (error.cause ?? error) : error
  return new Unreachable(reason instanceof Error ? reason.message : String(reason), 0, error)
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(aborted(signal?.reason))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, milliseconds)
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop, { once: true })
  })
}
