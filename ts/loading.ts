/**
 * What a load ends with: itself, its signal, the end of what it was for, or a callback that throws.
 */

import { RealmError } from './errors.js'
import type { LoadProgress, LogEntry } from './reports.js'

/** What a load is told by its caller. */
export interface LoadCallbacks {
  onProgress: ((progress: LoadProgress) => void) | undefined
  logger: ((entry: LogEntry) => void) | undefined
  signal: AbortSignal | undefined
}

/** The same, as the load may use it: the signal is there, and the functions do not throw. */
export type LoadContext = LoadCallbacks & { signal: AbortSignal }

/**
 * Runs a load with a signal that tells of every reason to end it.
 *
 * @param owner aborted, with the error to throw, when nobody can use what is loaded any more
 * @param undo  frees what was loaded though the load has failed
 * @throws RealmError  always of this class: ABORTED with the signal's reason as its cause, what
 *   `owner` was aborted with, or INVALID_ARGUMENT with what a callback threw as its cause
 */
export async function loading<T>(
  { onProgress, logger, signal }: LoadCallbacks,
  owner: AbortSignal | undefined,
  run: (context: LoadContext) => Promise<T>,
  undo: (loaded: T) => Promise<void>,
): Promise<T> {
  const stop = new AbortController()
  let thrown: RealmError | undefined
  const guardedCallback = <A>(name: string, callback: ((argument: A) => void) | undefined) =>
    callback &&
    ((argument: A) => {
      if (thrown !== undefined) return
      try {
        callback(argument)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        thrown = new RealmError('INVALID_ARGUMENT', `${name} threw: ${message}`, { cause: error })
        stop.abort(error)
      }
    })
  const unfollow = [signal, owner].map((one) => follow(one, stop))
  const failure = () => {
    if (thrown !== undefined) return thrown
    if (owner?.aborted) return RealmError.from(owner.reason)
    return signal?.aborted ? stopped(signal.reason) : undefined
  }
  const context = {
    onProgress: guardedCallback('onProgress', onProgress),
    logger: guardedCallback('logger', logger),
    signal: stop.signal,
  }
  let loaded: T
  try {
    if (stop.signal.aborted) throw stopped(stop.signal.reason)
    loaded = await run(context)
  } catch (error) {
    throw failure() ?? RealmError.from(error)
  } finally {
    for (const end of unfollow) end()
  }
  const reason = failure()
  if (reason === undefined) return loaded
  await undo(loaded)
  throw reason
}

function stopped(cause: unknown): RealmError {
  return new RealmError('ABORTED', 'loading was stopped by its signal', { cause })
}

/** Aborts `stop` when a signal is, which need not be of this class. Returns what ends that. */
function follow(signal: AbortSignal | undefined, stop: AbortController): () => void {
  if (signal === undefined) return () => {}
  const onAbort = () => stop.abort(signal.reason)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  return () => signal.removeEventListener?.('abort', onAbort)
}
