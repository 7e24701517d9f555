/**
 * The interface of `Realm.cache`: models that were downloaded and kept. In Node they lie in a
 * folder, in browsers in the origin's private file system.
 */

import { DEFAULT_HUB, hubFileUrl, parseHubName } from './sources/hub.js'
import { invalid, reading } from './validate.js'

/** A downloaded model. */
export interface CachedModel {
  /**
   * The address it came from; of a split file that of its first part. Without a password, and with
   * `***` for each value of a query: signed addresses are secrets.
   */
  url: string
  /** What it is kept under, where that was named. */
  cacheKey?: string
  /** Bytes that are stored, of all parts. */
  bytes: number
  /** Bytes of the whole model; null while a server has not said. */
  totalBytes: number | null
  /** Whether all of it is there. Loading a partial one fetches what is missing. */
  isComplete: boolean
  /** When it was last loaded, or last grew. */
  lastUsed: Date
}

/** Room for models, in bytes. */
export interface StorageQuota {
  /** Bytes in use: by this origin in browsers, on the file system in Node. */
  usage: number
  /** Bytes there may be at most. */
  quota: number
  /** Whether it is kept until somebody deletes it; a browser may otherwise do so when disk is short. */
  persisted: boolean
}

/** Downloaded models, and the room for them. */
export interface ModelCache {
  /** Every model, the one used last first. */
  list(): Promise<CachedModel[]>
  /** Bytes of all models together. */
  size(): Promise<number>
  /**
   * Deletes a model: by the address that it was loaded from, the `url` or the `cacheKey` that `list`
   * tells, or `hf:owner/repo[/file][@revision]`, which without a file means all of the repository.
   * @returns whether there was one
   * @throws RealmError IN_USE            it is loaded, or being downloaded
   * @throws RealmError INVALID_ARGUMENT  not an address
   */
  delete(source: string | URL): Promise<boolean>
  /**
   * Deletes every model.
   * @throws RealmError IN_USE  some are loaded or being downloaded; the others are gone
   */
  clear(): Promise<void>
  /**
   * Deletes the models that were not used for longest until those that are left take `maxBytes` at
   * most. Those that are loaded or being downloaded stay.
   * @returns those that were deleted
   * @throws RealmError INVALID_ARGUMENT  `maxBytes` is no integer of at least 0
   */
  prune(options: { maxBytes: number }): Promise<CachedModel[]>
  /** How much room there is. */
  quota(): Promise<StorageQuota>
  /**
   * Asks the browser to keep the models until somebody deletes them.
   * @returns whether it does
   */
  persist(): Promise<boolean>
}

/**
 * Tells which cached models are meant by what a caller of `delete` wrote, by their addresses.
 * @throws RealmError INVALID_ARGUMENT  no address, or a name of the hub in another form
 */
export function namedBy(source: unknown, hub: string = DEFAULT_HUB): (url: string) => boolean {
  const isAddress = reading('source', () => typeof source === 'string' || source instanceof URL)
  if (!isAddress) throw invalid('source', 'an address or hf: name', source)
  const name = String(source)
  if (!name.startsWith('hf:')) return (url) => url === urlOrText(name)
  const hubName = parseHubName(name)
  const prefix = urlOrText(hubFileUrl(hub, hubName, hubName.file ?? ''))
  return hubName.file === undefined ? (url) => url.startsWith(prefix) : (url) => url === prefix
}

/** The order of `list`. */
export function byLastUse(a: CachedModel, b: CachedModel): number {
  return b.lastUsed.getTime() - a.lastUsed.getTime()
}

function urlOrText(text: string): string {
  return URL.canParse(text) ? new URL(text).href : text
}
