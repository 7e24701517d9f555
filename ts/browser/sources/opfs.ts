/**
 * Where a browser keeps downloads: the origin's private file system (OPFS), under `realm/models`.
 *
 * A data file never changes once it is complete: a new version gets a new name, so that who has
 * the old one open goes on reading it.
 */

import type { ModelFolder, ModelStorage, WritableFile } from '../../download/storage.js'
import { RealmError } from '../../errors.js'
import { readHandle } from './byte-source.js'
import { lock, readerLock, tryLock, writerLock } from './locks.js'

/** Name of the error of a write without room. */
const QUOTA = 'QuotaExceededError'

/** Bytes of a hash that name a folder. */
const NAME_BYTES = 12

/** The storage of this page's origin; undefined where the browser, in this mode, has none. */
export async function originStorage(): Promise<OriginStorage | undefined> {
  try {
    const root = await navigator.storage.getDirectory()
    const realm = await root.getDirectoryHandle('realm', { create: true })
    return new OriginStorage(await realm.getDirectoryHandle('models', { create: true }))
  } catch {
    return undefined
  }
}

/** The folders of all models. */
export class OriginStorage implements ModelStorage {
  readonly #models: FileSystemDirectoryHandle

  constructor(models: FileSystemDirectoryHandle) {
    this.#models = models
  }

  async nameOf(key: string): Promise<string> {
    const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(key))
    const bytes = new Uint8Array(hash).subarray(0, NAME_BYTES)
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  }

  async open(name: string): Promise<OriginFolder> {
    return new OriginFolder(
      this.#models,
      await this.#models.getDirectoryHandle(name, { create: true }),
    )
  }

  async list(): Promise<OriginFolder[]> {
    const folders: OriginFolder[] = []
    for await (const handle of this.#models.values())
      if (handle.kind === 'directory') folders.push(new OriginFolder(this.#models, handle))
    return folders
  }
}

/** The files of one model. Written to only in dedicated workers. */
export class OriginFolder implements ModelFolder {
  readonly name: string
  readonly #models: FileSystemDirectoryHandle
  readonly handle: FileSystemDirectoryHandle

  constructor(models: FileSystemDirectoryHandle, handle: FileSystemDirectoryHandle) {
    this.#models = models
    this.handle = handle
    this.name = handle.name
  }

  tryLock() {
    return tryLock(writerLock(this.name))
  }

  lock(signal: AbortSignal | undefined) {
    return lock(writerLock(this.name), 'exclusive', signal)
  }

  async files(): Promise<string[]> {
    const names: string[] = []
    for await (const name of this.handle.keys()) names.push(name)
    return names
  }

  async readText(file: string): Promise<string | undefined> {
    for (let tries = 0; tries < 5; tries += 1) {
      try {
        const handle = await this.handle.getFileHandle(file)
        return await (await handle.getFile()).text()
      } catch (error) {
        // Written to between being opened and being read, by a download in another tab.
        if ((error as DOMException).name !== 'NotReadableError') return undefined
      }
    }
    return undefined
  }

  async writeText(file: string, text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text)
    const entry = await this.handle.getFileHandle(file, { create: true })
    const handle = await entry.createSyncAccessHandle()
    try {
      handle.write(bytes, { at: 0 })
      handle.truncate(bytes.byteLength)
      handle.flush()
    } finally {
      handle.close()
    }
  }

  dataFileName(part: number): string {
    return `${part}-${crypto.randomUUID().slice(0, 8)}.gguf`
  }

  async removeText(file: string): Promise<void> {
    await this.handle.removeEntry(file).catch(() => {})
  }

  /** Every part is opened by its own name. */
  async adopt(file: string): Promise<string> {
    return file
  }

  async sizeOf(file: string): Promise<number | undefined> {
    const entry = await this.handle.getFileHandle(file).catch(() => undefined)
    return (await entry?.getFile())?.size
  }

  async read(file: string, offset: number, length: number): Promise<Uint8Array> {
    const entry = await this.handle.getFileHandle(file)
    const blob = (await entry.getFile()).slice(offset, offset + length)
    return new Uint8Array(await blob.arrayBuffer())
  }

  async openForWriting(file: string): Promise<WritableFile> {
    const entry = await this.handle.getFileHandle(file, { create: true })
    return writable(await entry.createSyncAccessHandle())
  }

  async publish(file: string): Promise<string> {
    return file
  }

  async removeDataFile(file: string): Promise<boolean> {
    const release = await tryLock(readerLock(this.name, file))
    if (release === undefined) return false
    try {
      await this.handle.removeEntry(file)
      return true
    } catch (error) {
      return (error as DOMException).name === 'NotFoundError'
    } finally {
      release()
    }
  }

  async remove(): Promise<void> {
    await this.#models.removeEntry(this.name, { recursive: true })
  }

  /** What a browser says of its room is a rough guide. */
  async writeError(error: unknown, url: string, neededBytes: number): Promise<unknown> {
    if ((error as DOMException).name !== QUOTA) return error
    const { usage = 0, quota = 0 } = await navigator.storage.estimate()
    return new RealmError(
      'STORAGE_FULL',
      `${url}: ${neededBytes} bytes are needed, which the browser does not grant ` +
        `(it says that ${usage} of ${quota} bytes are in use); delete models with Realm.cache`,
      { cause: error },
    )
  }
}

function writable(handle: FileSystemSyncAccessHandle): WritableFile {
  return {
    // The browser counts a file at its length, whether or not there are blocks behind it.
    reserve: async (size) => handle.truncate(size),
    write: async (bytes, offset) => {
      const count = handle.write(bytes, { at: offset })
      if (count !== bytes.byteLength) throw new DOMException('a short write', QUOTA)
      handle.flush()
    },
    read: async (offset, length) => readHandle(handle, offset, length),
    truncate: async (size) => handle.truncate(size),
    close: async () => handle.close(),
  }
}
