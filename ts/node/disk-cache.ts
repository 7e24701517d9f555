/**
 * `Realm.cache` in Node: a folder on the disk.
 */

import { mkdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { ModelCache } from '../cache.js'
import { cacheOf } from '../download/model-cache.js'
import { DEFAULT_HUB } from '../sources/hub.js'
import type { SourceSettings } from '../sources/model-source.js'
import { invalid, isHttpAddress } from '../validate.js'
import { DiskStorage, diskSpace } from './disk-storage.js'

/** The cache in a folder, for names of a hub; by default those of the environment. */
export function diskCache({
  cacheDirectory,
  hubEndpoint,
}: Partial<SourceSettings> = {}): ModelCache {
  const root = () => cacheDirectory ?? defaultCache()
  const storage = async () => new DiskStorage(root())
  return {
    ...cacheOf(storage, () => hubEndpoint ?? hubOfEnvironment()),

    async quota() {
      await mkdir(root(), { recursive: true })
      return { ...(await diskSpace(root())), persisted: true }
    },

    persist: async () => true,
  }
}

/**
 * The hub that HF_ENDPOINT names, or the usual one.
 * @throws RealmError INVALID_ARGUMENT  it is no address
 */
export function hubOfEnvironment(): string {
  const hub = process.env.HF_ENDPOINT || DEFAULT_HUB
  if (!isHttpAddress(hub)) throw invalid('HF_ENDPOINT', 'an http(s) address', hub)
  return hub
}

/** Where models are kept unless told otherwise. */
export function defaultCache(): string {
  const { REALM_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  if (REALM_CACHE) return REALM_CACHE
  if (process.platform === 'win32')
    return join(LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'realm')
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'realm')
  return join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'realm')
}
