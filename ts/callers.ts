/**
 * What callers hand in to be used while something goes on: signals, loggers, progress callbacks.
 * One rule each. A signal stops the operation. A logger is told and not asked: what it throws is
 * ignored. An `onProgress` that throws stops its operation, which rejects with ABORTED and what was
 * thrown as its cause. A promise that a callback returns counts as the callback does.
 */

import { messageOf, RealmError } from './errors.js'
import { reading } from './validate.js'

/** What stops an operation, and whom it tells. */
export interface Caller<P> {
  readonly signal: AbortSignal | undefined
  readonly onProgress: ((progress: P) => void) | undefined
  /** Aborted, with the error to reject with, when nobody can use what is made any more. */
  readonly owner?: AbortSignal
}

/** The same, as the operation may use it: one signal for every reason, and nothing that throws. */
export interface Running<P> {
  readonly signal: AbortSignal
  readonly onProgress: ((progress: P) => void) | undefined
}

/**
 * Whether a signal was aborted.
 * @throws RealmError INVALID_ARGUMENT  what works like a signal does not say so
 */
export function isAborted(signal: AbortSignal | undefined): boolean {
  return reading('signal', () => signal?.aborted === true)
}

/** Who is to be stopped by a signal. */
interface Audience {
  readonly stops: Set<() => void>
  readonly tell: () => void
}

/**
 * One listener for each signal, however many operations it is given to: Node warns of a leak where
 * a signal has more than ten.
 */
const audiences = new WeakMap<AbortSignal, Audience>()

/**
 * Calls `stop` when a signal is aborted; at once if it is already.
 * @returns what ends listening
 * @throws RealmError INVALID_ARGUMENT  what works like a signal cannot be listened to
 */
export function listen(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (signal === undefined) return () => {}
  if (isAborted(signal)) {
    stop()
    return () => {}
  }
  const audience = audiences.get(signal) ?? gather(signal)
  const own = () => stop()
  audience.stops.add(own)
  return () => {
    if (audience.stops.delete(own) && audience.stops.size === 0) dismiss(signal, audience)
  }
}

function gather(signal: AbortSignal): Audience {
  const stops = new Set<() => void>()
  const audience = {
    stops,
    tell: () => {
      audiences.delete(signal)
      for (const stop of [...stops]) stop()
    },
  }
  reading('signal', () => signal.addEventListener('abort', audience.tell, { once: true }))
  audiences.set(signal, audience)
  return audience
}

function dismiss(signal: AbortSignal, audience: Audience): void {
  if (audiences.get(signal) === audience) audiences.delete(signal)
  try {
    signal.removeEventListener('abort', audience.tell)
  } catch {
    // What was listened for is over, and hearing of it later does nothing.
  }
}

/** Why a signal was aborted. Never throws. */
function reasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason
  } catch (error) {
    return error
  }
}

/** A logger that never throws. */
export function quiet<E>(logger: (entry: E) => void): (entry: E) => void {
  return (entry) => tell(logger, entry, () => {})
}

/**
 * Runs an operation for a caller: with a signal that is aborted by the caller's own, by the owner's
 * and by an `onProgress` that throws, and with an `onProgress` that does not throw.
 *
 * @param what    for the message, such as 'loading'
 * @param discard frees what the operation made when it is too late to stop it
 * @throws RealmError  always of this class: ABORTED with the signal's reason or what `onProgress`
 *   threw as its cause, what the owner was aborted with, or the operation's own
 */
export async function runFor<P, T>(
  what: string,
  { signal, onProgress, owner }: Caller<P>,
  run: (running: Running<P>) => Promise<T>,
  discard: (made: T) => unknown = () => {},
): Promise<T> {
  const stop = new AbortController()
  let failure: RealmError | undefined
  const fail = (error: RealmError) => {
    failure ??= error
    stop.abort(failure)
  }
  const aborted = (how: string, cause: unknown) =>
    fail(new RealmError('ABORTED', `${what} was stopped${how}`, { cause }))
  const report = (progress: P) => {
    if (onProgress === undefined || failure !== undefined) return
    tell(onProgress, progress, (cause) =>
      aborted(`, since onProgress threw: ${messageOf(cause)}`, cause),
    )
  }
  const ends = [
    listen(signal, () => aborted(' by its signal', reasonOf(signal))),
    listen(owner, () => fail(RealmError.from(owner?.reason))),
  ]
  let made: T
  try {
    if (failure !== undefined) throw failure
    made = await run({ signal: stop.signal, onProgress: onProgress && report })
  } catch (error) {
    throw failure ?? RealmError.from(error)
  } finally {
    for (const end of ends) end()
  }
  if (failure === undefined) return made
  await discard(made)
  throw failure
}

/** Calls a callback; what it throws, or rejects with, goes to `onThrow`. */
function tell<T>(callback: (value: T) => unknown, value: T, onThrow: (error: unknown) => void) {
  try {
    Promise.resolve(callback(value)).catch(onThrow)
  } catch (error) {
    onThrow(error)
  }
}
