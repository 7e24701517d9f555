/**
 * `Realm.cache` over the folders of a platform.
 */

import { byLastUse, type CachedModel, type ModelCache, namedBy } from '../cache.js'
import { RealmError } from '../errors.js'
import { type Journal, storedBytes } from './journal.js'
import { journalName, type ModelFolder, type ModelStorage, readJournals } from './storage.js'

/** What a cache has beside its models. */
export type CacheRoom = Pick<ModelCache, 'quota' | 'persist'>

/** The cache of a storage; `hub` says where names of a hub lead. */
export function cacheOf(
  storage: () => Promise<ModelStorage | undefined>,
  hub: () => string | undefined,
) {
  const models = async () => listFolders(await storage())
  return {
    async list() {
      return listModels(await storage())
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

/** Every model, the one used last first; none without a storage. */
export async function listModels(storage: ModelStorage | undefined): Promise<CachedModel[]> {
  return (await listFolders(storage)).map(({ model }) => model).sort(byLastUse)
}

interface Described {
  folder: ModelFolder
  model: CachedModel
}

async function listFolders(storage: ModelStorage | undefined): Promise<Described[]> {
  const described: Described[] = []
  for (const folder of (await storage?.list()) ?? []) {
    const journals = await readJournals(folder)
    const first = journals.get(journalName(1))
    // A folder without a readable journal is filled anew by the next load.
    if (first !== undefined)
      described.push({ folder, model: describe(first, [...journals.values()]) })
  }
  return described
}

function describe(first: Journal, journals: Journal[]): CachedModel {
  const sizes = journals.map(({ version }) => version?.size)
  const isWhole = journals.length === first.parts && !sizes.includes(undefined)
  return {
    url: first.url,
    bytes: journals.reduce((sum, journal) => sum + storedBytes(journal), 0),
    totalBytes: isWhole ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0) : null,
    isComplete: isWhole && journals.every(({ isComplete }) => isComplete),
    lastUsed: new Date(Math.max(...journals.map(({ lastUsed }) => lastUsed))),
  }
}

/** Removes all that are not in use, then says which are. */
async function removeAll(models: Described[]): Promise<void> {
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
    for (const { file } of (await readJournals(folder)).values())
      if (file !== '' && !(await folder.removeDataFile(file))) return false
    await folder.remove()
    return true
  } finally {
    release()
  }
}
