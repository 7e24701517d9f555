/**
 * Locks that tabs and workers of an origin share (Web Locks). They end with their owner, so that
 * a closed tab blocks nobody. Pages without a secure context have none, and no shared files.
 */

import { aborted } from '../../sources/model-source.js'

/** Held by whoever writes to a model's folder. */
export function writerLock(folder: string): string {
  return `realm:write:${folder}`
}

/** Held, shared, by everybody who has a stored file open. */
export function readerLock(folder: string, file: string): string {
  return `realm:read:${folder}/${file}`
}

/**
 * Waits for a lock.
 * @returns what gives it back
 * @throws RealmError ABORTED
 */
export async function lock(
  name: string,
  mode: LockMode,
  signal?: AbortSignal,
): Promise<() => void> {
  const release = await request(name, signal === undefined ? { mode } : { mode, signal })
  return release ?? (() => {})
}

/** Takes an exclusive lock unless somebody has it: then undefined. */
export async function tryLock(name: string): Promise<(() => void) | undefined> {
  return request(name, { ifAvailable: true })
}

function request(name: string, options: LockOptions): Promise<(() => void) | undefined> {
  const { locks } = navigator as { locks?: LockManager }
  if (locks === undefined) return Promise.resolve(() => {})
  return new Promise((resolve, reject) => {
    const whileHeld = (held: Lock | null) => {
      if (held === null) return resolve(undefined)
      return new Promise<void>((release) => resolve(release))
    }
    locks.request(name, options, whileHeld).catch((error) => {
      reject(options.signal?.aborted ? aborted(error) : error)
    })
  })
}
