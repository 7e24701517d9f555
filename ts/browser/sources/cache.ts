/**
 * `Realm.cache` in browsers: models in the origin's private file system. Works in pages and in
 * workers.
 */

import type { ModelCache } from '../../cache.js'
import { cacheOf } from '../../download/model-cache.js'
import { originStorage } from './opfs.js'

/** The cache of this page's origin; empty where the browser has no private file system. */
export function browserCache(hubEndpoint?: string): ModelCache {
  return {
    ...cacheOf(originStorage, () => hubEndpoint),

    async quota() {
      const { storage } = navigator as { storage?: StorageManager }
      const { usage = 0, quota = 0 } = (await storage?.estimate()) ?? {}
      return { usage, quota, persisted: (await storage?.persisted()) ?? false }
    },

    async persist() {
      const { storage } = navigator as {
        storage?: StorageManager & { persist?(): Promise<boolean> }
      }
      // Only pages can ask; workers learn what was granted.
      return (await (storage?.persist?.() ?? storage?.persisted())) ?? false
    },
  }
}
