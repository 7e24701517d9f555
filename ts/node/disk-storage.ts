/**
 * Where Node keeps downloads: a folder on the disk, which processes share.
 *
 * ```text
 * <cache>/<hash of the first part's address>/1.json      journal of part 1
 *                                            name.gguf   its bytes, for the engine to map;
 *                                            name.gguf.part   until they are complete
 *                                            2-name.gguf   those of the version after it
 *         locks/<the same hash>   locked by who writes to that folder; always empty
 *               <the same hash>.<hash of a file's name>.<number>   by who reads that file
 * ```
 *
 * A complete file is never written to again, and a new version gets a name of its own: who has the
 * old one mapped goes on reading it.
 */

import { createHash, randomUUID } from 'node:crypto'
import {
  copyFile,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ModelFolder, ModelStorage, Release, WritableFile } from '../download/storage.js'
import { guarded, RealmError } from '../errors.js'
import { loadBinding } from '../load-binding.js'
import { aborted } from '../sources/model-source.js'

/** Milliseconds between two tries to get a lock that somebody has. */
const LOCK_RETRY_MS = 150

const LOCKS = 'locks'
const UNFINISHED = '.part'

/** Letters of a file's name; its end tells which part of a model it is. */
const MAX_NAME = 200

/** Codes of errors of a disk without room, or of a user who may not have more of it. */
const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT']

/** Codes of errors of a file that somebody has mapped: on Windows it can be neither removed nor replaced. */
const BUSY: readonly unknown[] = ['EBUSY', 'EPERM', 'EACCES']

/** The folders of all models, in a folder of the user's. */
export class DiskStorage implements ModelStorage {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  async nameOf(key: string): Promise<string> {
    return shortHash(key)
  }

  async open(name: string): Promise<DiskFolder> {
    return new DiskFolder(this.#root, name)
  }

  async list(): Promise<DiskFolder[]> {
    const entries = await readdir(this.#root, { withFileTypes: true }).catch(() => [])
    return entries
      .filter((entry) => entry.isDirectory() && entry.name !== LOCKS)
      .map(({ name }) => new DiskFolder(this.#root, name))
  }
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24)
}

/** Bytes in use and in all of the file system that a folder is on; 0 where it does not say. */
export async function diskSpace(folder: string): Promise<{ usage: number; quota: number }> {
  const { blocks, bavail, bsize } = await statfs(folder)
  return { usage: (blocks - bavail) * bsize, quota: blocks * bsize }
}

/**
 * What the complete file of a part is called: a name that is safe on every file system, whatever
 * the server calls the file, and no journal's.
 */
function publishedName(url: URL, generation: number): string {
  const safe = basename(url.pathname)
    .replace(/[^\w.-]/g, '_')
    .slice(-MAX_NAME)
    .replace(/^\.*/, '')
  const name = safe === '' ? 'model.gguf' : safe.replace(/(\.gguf)?$/i, (end) => end || '.gguf')
  return generation > 1 ? `${generation}-${name}` : name
}

/** The files of one model. */
export class DiskFolder implements ModelFolder {
  readonly path: string
  /** Of the file that is locked. */
  readonly lockPath: string

  constructor(
    root: string,
    readonly name: string,
  ) {
    this.path = join(root, name)
    this.lockPath = join(root, LOCKS, name)
  }

  /** Takes the lock, under which the folder is there. */
  async tryLock(): Promise<Release | undefined> {
    try {
      await mkdir(dirname(this.lockPath), { recursive: true })
      const held = guarded(() => loadBinding().tryLockFile(this.lockPath))
      if (held === null) return undefined
      await mkdir(this.path, { recursive: true })
      return () => held.release()
    } catch (error) {
      throw await this.writeError(error, this.path, 0)
    }
  }

  async lock(signal: AbortSignal | undefined): Promise<Release> {
    for (;;) {
      const release = await this.tryLock()
      if (release !== undefined) return release
      await sleep(LOCK_RETRY_MS, undefined, { ...(signal && { signal }) }).catch((error) => {
        throw aborted(error)
      })
    }
  }

  /**
   * Says that a data file is being read, until it is released or this process ends. For the holder
   * of the folder's lock.
   */
  readonly reading = async (file: string): Promise<Release> => {
    // Locks are for one holder each, so every reader has one of its own.
    const path = join(dirname(this.lockPath), `${this.#readerPrefix(file)}${randomUUID()}`)
    const held = guarded(() => loadBinding().tryLockFile(path))
    return () => {
      if (held === null) return
      held.release()
      rm(path, { force: true }).catch(() => {})
    }
  }

  /** Of names of any length: systems have limits. */
  #readerPrefix(file: string): string {
    return `${basename(this.lockPath)}.${shortHash(file)}.`
  }

  /** Whether somebody reads a data file. Removes the locks of those who have ended without a word. */
  async #isRead(file: string): Promise<boolean> {
    const locks = dirname(this.lockPath)
    const prefix = this.#readerPrefix(file)
    const names = (await readdir(locks)).filter((name) => name.startsWith(prefix))
    let isRead = false
    for (const name of names) {
      const held = guarded(() => loadBinding().tryLockFile(join(locks, name)))
      if (held === null) isRead = true
      else {
        held.release()
        await rm(join(locks, name), { force: true })
      }
    }
    return isRead
  }

  files(): Promise<string[]> {
    return readdir(this.path).catch(() => [])
  }

  readText(file: string): Promise<string | undefined> {
    return readFile(join(this.path, file), 'utf8').catch(() => undefined)
  }

  async writeText(file: string, text: string): Promise<void> {
    const path = join(this.path, file)
    await writeFile(`${path}${UNFINISHED}`, text)
    await rename(`${path}${UNFINISHED}`, path)
  }

  dataFileName(_part: number, url: URL, generation: number): string {
    return `${publishedName(url, generation)}${UNFINISHED}`
  }

  /** The engine finds the parts of a split file by the name of the first. */
  async adopt(file: string, _part: number, url: URL, generation: number): Promise<string> {
    const name = publishedName(url, generation)
    const [from, to] = [join(this.path, file), join(this.path, name)]
    await rm(to, { force: true })
    // Not every file system has links.
    await link(from, to).catch(() => copyFile(from, to))
    return name
  }

  async removeText(file: string): Promise<void> {
    await rm(join(this.path, file), { force: true })
  }

  async sizeOf(file: string): Promise<number | undefined> {
    return (await stat(join(this.path, file)).catch(() => undefined))?.size
  }

  async read(file: string, offset: number, length: number): Promise<Uint8Array> {
    const handle = await open(join(this.path, file))
    try {
      return await readAt(handle, offset, length)
    } finally {
      await handle.close()
    }
  }

  async openForWriting(file: string): Promise<WritableFile> {
    const path = join(this.path, file)
    // Opened as it is, or made.
    const handle = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
      return open(path, 'w+')
    })
    return writable(handle, this.path)
  }

  async publish(file: string): Promise<string> {
    const published = file.slice(0, -UNFINISHED.length)
    try {
      await rename(join(this.path, file), join(this.path, published))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (process.platform !== 'win32' || !BUSY.includes(code)) throw error
      const text = `${join(this.path, published)} is loaded, so that its new version cannot replace it`
      throw new RealmError('IN_USE', text, { cause: error })
    }
    return published
  }

  async removeDataFile(file: string): Promise<boolean> {
    try {
      if (await this.#isRead(file)) return false
      await rm(join(this.path, file), { force: true })
      return true
    } catch (error) {
      if (BUSY.includes((error as NodeJS.ErrnoException).code)) return false
      throw error
    }
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }

  async writeError(error: unknown, what: string, neededBytes: number): Promise<unknown> {
    const { code, message } = error as NodeJS.ErrnoException
    if (error instanceof RealmError || typeof code !== 'string') return error
    if (!FULL.includes(code))
      return new RealmError('WRITE_FAILED', `${what}: ${message}`, { cause: error })
    const { usage, quota } = await diskSpace(this.path).catch(() => ({ usage: 0, quota: 0 }))
    return new RealmError(
      'STORAGE_FULL',
      `${what}: ${neededBytes} bytes are needed, ${this.path} has ${quota - usage} left`,
      { cause: error },
    )
  }
}

function writable(handle: FileHandle, folder: string): WritableFile {
  return {
    async reserve(size, missingBytes) {
      const { usage, quota } = await diskSpace(folder)
      if (quota > 0 && missingBytes > quota - usage)
        throw Object.assign(new Error('too few bytes are free'), { code: 'ENOSPC' })
      await handle.truncate(size)
    },

    async write(bytes, offset) {
      for (let at = 0; at < bytes.byteLength; ) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.byteLength - at, offset + at)
        at += bytesWritten
      }
      // The journal is not to tell of bytes that a power cut takes away.
      await handle.datasync()
    },

    read: (offset, length) => readAt(handle, offset, length),

    truncate: (size) => handle.truncate(size),
    close: () => handle.close(),
  }
}

async function readAt(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  const { bytesRead } = await handle.read(bytes, 0, length, offset)
  return bytes.subarray(0, bytesRead)
}
