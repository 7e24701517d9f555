/**
 * `Realm.cache` in Node: a folder on the disk with a folder for each model, named by the hash of
 * its address. Beside each file lies a small record of where it came from.
 *
 * ```text
 * <cache>/<hash of the first part's address>/name.gguf        the file
 *                                            name.gguf.json   its record
 *                                            name.gguf.….part a download under way, or given up
 * ```
 */

import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { byLastUse, type CachedModel, type ModelCache, namedBy } from './cache.js'
import { RealmError } from './errors.js'
import { DEFAULT_HUB } from './hub.js'
import type { SourceSettings } from './model-source.js'

/** Where a file came from. When it was last used is when its record was last written. */
export interface FileRecord {
  url: string
  /** Parts of the model that the file belongs to. */
  parts: number
  etag: string | null
}

/** The cache in a folder, for names of a hub; by default those of the environment. */
export function diskCache({
  cacheDirectory,
  hubEndpoint,
}: Partial<SourceSettings> = {}): ModelCache {
  const root = () => cacheDirectory ?? defaultCache()
  return {
    async list() {
      return (await listFolders(root())).map(({ model }) => model).sort(byLastUse)
    },

    async size() {
      return (await listFolders(root())).reduce((sum, { model }) => sum + model.bytes, 0)
    },

    async delete(source) {
      const isNamed = namedBy(source, hubEndpoint ?? hubOfEnvironment())
      const named = (await listFolders(root())).filter(({ model }) => isNamed(model.url))
      await removeAll(named)
      return named.length > 0
    },

    async clear() {
      await removeAll(await listFolders(root()))
    },

    async quota() {
      await mkdir(root(), { recursive: true })
      return { ...(await diskSpace(root())), persisted: true }
    },

    persist: async () => true,
  }
}

/** Bytes in use and in all of the file system that a folder is on. */
export async function diskSpace(folder: string): Promise<{ usage: number; quota: number }> {
  const { blocks, bavail, bsize } = await statfs(folder)
  return { usage: (blocks - bavail) * bsize, quota: blocks * bsize }
}

/** Folder of a model, by the address of its first part. */
export function modelFolder(cacheDirectory: string | undefined, first: URL): string {
  const hash = createHash('sha256').update(first.href).digest('hex').slice(0, 24)
  return join(cacheDirectory ?? defaultCache(), hash)
}

/** Where the record of a file is. */
export function recordPath(path: string): string {
  return `${path}.json`
}

/** The record of a file; undefined where there is none that can be read. */
export async function readRecord(path: string): Promise<FileRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(recordPath(path), 'utf8')) as FileRecord
    return typeof record.url === 'string' ? record : undefined
  } catch {
    return undefined
  }
}

export async function writeRecord(path: string, record: FileRecord): Promise<void> {
  await writeFile(recordPath(path), JSON.stringify(record))
}

/** The hub that HF_ENDPOINT names, or the usual one. */
export function hubOfEnvironment(): string {
  return process.env.HF_ENDPOINT ?? DEFAULT_HUB
}

interface ModelFolder {
  path: string
  model: CachedModel
}

async function listFolders(root: string): Promise<ModelFolder[]> {
  const names = await readdir(root).catch(() => [])
  const folders = await Promise.all(names.map((name) => describe(join(root, name))))
  return folders.filter((folder) => folder !== undefined)
}

/** What is in a folder; undefined for one that is no model's. */
async function describe(path: string): Promise<ModelFolder | undefined> {
  const files = (await readdir(path).catch(() => [])).sort()
  const suffix = recordPath('')
  const parts = []
  for (const name of files.filter((name) => name.endsWith(suffix))) {
    const file = join(path, name.slice(0, -suffix.length))
    const record = await readRecord(file)
    const stats = await stat(file).catch(() => undefined)
    const used = await stat(recordPath(file)).catch(() => undefined)
    if (record === undefined || stats === undefined || used === undefined) continue
    parts.push({ ...record, bytes: stats.size, lastUsed: used.mtime })
  }
  const [first] = parts
  if (first === undefined) return undefined
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  const isComplete = parts.length === first.parts
  const lastUsed = new Date(Math.max(...parts.map((part) => part.lastUsed.getTime())))
  const model = {
    url: first.url,
    bytes,
    totalBytes: isComplete ? bytes : null,
    isComplete,
    lastUsed,
  }
  return { path, model }
}

async function removeAll(folders: ModelFolder[]): Promise<void> {
  const used: string[] = []
  for (const { path, model } of folders) {
    try {
      await rm(path, { recursive: true, force: true })
    } catch (error) {
      // Windows keeps files that are mapped; elsewhere they live on until they are let go.
      const { code = '' } = error as NodeJS.ErrnoException
      if (!['EBUSY', 'EPERM', 'EACCES'].includes(code)) throw error
      used.push(model.url)
    }
  }
  if (used.length > 0) throw new RealmError('IN_USE', `loaded: ${used.join(', ')}`)
}

function defaultCache(): string {
  const { REALM_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  if (REALM_CACHE) return REALM_CACHE
  if (process.platform === 'win32')
    return join(LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'realm')
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'realm')
  return join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'realm')
}
