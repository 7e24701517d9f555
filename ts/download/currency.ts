/**
 * Whether what is stored is still what its server has. Asking costs a load little time and can do
 * no harm: where a server does not answer, or refuses to, what is stored is used.
 */

import { isPinned } from '../sources/hub.js'
import { shownUrl } from '../sources/url.js'
import type { DownloadContext } from './context.js'
import type { FileStore } from './piece-store.js'
import { differs, request, Transient, versionOf } from './requests.js'

/** Milliseconds that a load waits for answers about what is stored, all of them together. */
const PATIENCE_MS = 3000

/** Servers that are asked at once. */
const PARALLEL = 8

/** How a question is asked. */
interface Within {
  signal: AbortSignal
  /** Milliseconds until the headers must be there. */
  stallMs: number
}

/** What a load knows of when to ask, and how long it may still wait. */
export class Currency {
  readonly #maxAgeMs: number
  readonly #began = Date.now()
  #patienceMs = PATIENCE_MS

  /**
   * @param maxAgeMs for how long a server's word is good: 0 asks with every load, Infinity never
   */
  constructor(maxAgeMs: number) {
    this.#maxAgeMs = maxAgeMs
  }

  /** Whether to ask about a file that a server last confirmed then. */
  isDue(confirmedAt: number): boolean {
    if (this.#maxAgeMs === Number.POSITIVE_INFINITY) return false
    const age = Date.now() - confirmedAt
    // Clocks are set back at times.
    if (age < 0) return true
    // Since this load began, somebody else may have asked.
    return age >= this.#maxAgeMs && confirmedAt <= this.#began
  }

  /**
   * Asks a question about each of these, and says what came of each: Transient for those that were
   * not answered before the load's patience was over.
   */
  async ask<T, R>(
    items: readonly T[],
    signal: AbortSignal | undefined,
    question: (item: T, within: Within) => Promise<R>,
  ): Promise<PromiseSettledResult<R>[]> {
    const late = new AbortController()
    const stallMs = this.#patienceMs
    const began = performance.now()
    const timer = setTimeout(() => late.abort(), stallMs)
    const signals = signal === undefined ? late.signal : AbortSignal.any([signal, late.signal])
    const tooLate = (cause?: unknown) =>
      new Transient(`no answer within ${PATIENCE_MS / 1000} s`, 0, cause)
    const waiting = [...items.entries()]
    const results: PromiseSettledResult<R>[] = []
    const workers = Array.from({ length: PARALLEL }, async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [i, item] = next
        const answer =
          stallMs <= 0 ? Promise.reject(tooLate()) : question(item, { signal: signals, stallMs })
        results[i] = await answer.then(
          (value) => ({ status: 'fulfilled', value }),
          (error) => {
            const isLate = late.signal.aborted && !signal?.aborted
            return { status: 'rejected', reason: isLate ? tooLate(error) : error }
          },
        )
      }
    })
    await Promise.all(workers)
    clearTimeout(timer)
    const spent = late.signal.aborted ? stallMs : Math.ceil(performance.now() - began)
    this.#patienceMs = Math.max(0, stallMs - spent)
    return results
  }
}

/**
 * The complete ones among the stored parts of which the server has another version.
 * @throws RealmError ABORTED
 */
export async function findOutdated(
  stores: readonly FileStore[],
  context: DownloadContext,
): Promise<Set<FileStore>> {
  const { currency, hub, logger, signal } = context
  const due = stores.filter(
    ({ isComplete, confirmedAt, part: { url } }) =>
      isComplete && !isPinned(hub.endpoint, url) && currency.isDue(confirmedAt),
  )
  const answers = await currency.ask(due, signal, (store, within) =>
    isCurrent(store, { ...context, ...within }),
  )
  const outdated = new Set<FileStore>()
  for (const [i, store] of due.entries()) {
    const answer = answers[i]
    if (answer?.status === 'fulfilled') {
      if (answer.value) store.confirm()
      else outdated.add(store)
    } else {
      if (signal?.aborted) throw answer?.reason
      const message = `${shownUrl(store.part.url)}: ${answer?.reason.message}; using the stored file`
      logger?.({ level: 'warn', message })
    }
  }
  return outdated
}

/** Whether the server has the stored version. */
async function isCurrent(
  { part: { url }, version }: FileStore,
  context: DownloadContext & Within,
): Promise<boolean> {
  if (version === null) return false
  // Some servers answer only to GET, such as those with addresses signed for it.
  const firstByte = () => request(url, { headers: { range: 'bytes=0-0' } }, context)
  const response = await request(url, { method: 'HEAD' }, context).catch((error) => {
    if (error instanceof Transient || context.signal.aborted) throw error
    return firstByte()
  })
  response.body?.cancel().catch(() => {})
  return !differs(version, versionOf(response))
}
