/**
 * `Realm.cache` over the folders of a platform.
 */

import { byLastUse, type CachedModel, type ModelCache, namedBy } from '../cache.js'
import { RealmError } from '../errors.js'
import { type Journal, storedBytes } from './journal.js'
import {
  journalName,
  type ModelFolder,
  type ModelStorage,
  readAllJournals,
  readJournals,
} from './storage.js'

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
      const named = (await models()).filter(({ model }) => isNamed(model.url))
      await removeAll(named)
      return named.length > 0
    },

    async clear() {
      await removeAll(await models())
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
  const model = {
    url: first.url,
    bytes: journals.reduce((sum, journal) => sum + storedBytes(journal), 0),
    totalBytes: isWhole ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) : null,
    isComplete: isWhole && journals.every(({ isComplete }) => isComplete),
    lastUsed: new Date(Math.max(...journals.map(({ lastUsed }) => lastUsed))),
  }
  const confirmedAt = Math.min(...journals.map((journal) => journal.confirmedAt))
  return { folder, url: new URL(first.url), model, confirmedAt }
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
