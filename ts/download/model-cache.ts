/**
 * `Realm.cache` over the folders of a platform.
 */

import { byLastUse, type CachedModel, type ModelCache, namedBy } from '../cache.js'
import { RealmError } from '../errors.js'
import { shownUrl } from '../sources/url.js'
import { integer, invalid, readOptions } from '../validate.js'
import { type Journal, storedBytes } from './journal.js'
import {
  journalName,
  type ModelFolder,
  type ModelStorage,
  readAllJournals,
  readJournals,
} from './storage.js'

const PRUNE = { maxBytes: integer(0, Number.MAX_SAFE_INTEGER, undefined) }

/** What a cache has beside its models. */
export type CacheRoom = Pick<ModelCache, 'quota' | 'persist'>

/** The cache of a storage; `hub` says where names of a hub lead. */
export function cacheOf(
  storage: () => Promise<ModelStorage | undefined>,
  hub: () => string | undefined,
) {
  const models = async () => listStored(await storage())
  return {
    async list() {
      return (await models()).map(({ model }) => model).sort(byLastUse)
    },

    async size() {
      return (await models()).reduce((sum, { model }) => sum + model.bytes, 0)
    },

    async delete(source) {
      const isNamed = namedBy(source, hub())
      const stored = await storage()
      const text = String(source)
      const keys = [text, URL.canParse(text) ? new URL(text).href : text]
      const names = await Promise.all(keys.map((key) => stored?.nameOf(key)))
      const named = (await models()).filter(
        ({ folder, model }) => names.includes(folder.name) || isNamed(model.url),
      )
      await removeAll(named)
      return named.length > 0
    },

    async clear() {
      await removeAll(await models())
    },

    async prune(options) {
      const { maxBytes } = readOptions('prune options', options, PRUNE)
      if (maxBytes === undefined) throw invalid('prune options.maxBytes', 'an integer', maxBytes)
      const oldestFirst = (await models()).sort((a, b) => byLastUse(b.model, a.model))
      let bytes = oldestFirst.reduce((sum, { model }) => sum + model.bytes, 0)
      const deleted: CachedModel[] = []
      for (const { folder, model } of oldestFirst) {
        if (bytes <= maxBytes) break
        if (!(await removeUnused(folder))) continue
        bytes -= model.bytes
        deleted.push(model)
      }
      return deleted
    },
  } satisfies Omit<ModelCache, keyof CacheRoom>
}

/** A model in its folder. */
export interface StoredModel {
  folder: ModelFolder
  url: URL
  model: CachedModel
  /** When its server last said that this is what it has, of the part that it said it of first. */
  confirmedAt: number
}

/** Every model; none without a storage. */
export async function listStored(storage: ModelStorage | undefined): Promise<StoredModel[]> {
  const stored: StoredModel[] = []
  for (const folder of (await storage?.list()) ?? []) {
    const journals = await readJournals(folder)
    const first = journals.get(journalName(1))
    // A folder without a readable journal is filled anew by the next load.
    if (first !== undefined) stored.push(describe(folder, first, [...journals.values()]))
  }
  return stored
}

function describe(folder: ModelFolder, first: Journal, journals: Journal[]): StoredModel {
  const sizes = journals.map(({ version }) => version?.size)
  const isWhole = journals.length === first.parts && !sizes.includes(undefined)
  const url = shownUrl(first.url)
  const model: CachedModel = {
    url,
    ...(first.cacheKey !== null && { cacheKey: first.cacheKey }),
    bytes: journals.reduce((sum, journal) => sum + storedBytes(journal), 0),
    totalBytes: isWhole ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) : null,
    isComplete: isWhole && journals.every(({ isComplete }) => isComplete),
    lastUsed: new Date(Math.max(...journals.map(({ lastUsed }) => lastUsed))),
  }
  const confirmedAt = Math.min(...journals.map((journal) => journal.confirmedAt))
  return { folder, url: new URL(url), model, confirmedAt }
}

/** Removes all that are not in use, then says which are. */
async function removeAll(models: StoredModel[]): Promise<void> {
  const used: string[] = []
  for (const { folder, model } of models) if (!(await removeUnused(folder))) used.push(model.url)
  if (used.length > 0)
    throw new RealmError('IN_USE', `loaded or being downloaded: ${used.join(', ')}`)
}

/** Removes a model unless somebody writes or reads it. Returns whether it is gone. */
async function removeUnused(folder: ModelFolder): Promise<boolean> {
  const release = await folder.tryLock()
  if (release === undefined) return false
  try {
    for (const { file } of (await readAllJournals(folder)).values())
      if (file !== '' && !(await folder.removeDataFile(file))) return false
    await folder.remove()
    return true
  } finally {
    release()
  }
}
