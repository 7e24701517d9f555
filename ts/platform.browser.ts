/**
 * The browser's side of `platform.ts`: it takes its place in the browser build.
 */

import type { Binding } from './binding.js'
import { BrowserBinding } from './browser/binding.js'
import { browserCache } from './browser/sources/cache.js'
import type { ModelCache } from './cache.js'
import { RealmError } from './errors.js'
import type { SourceSettings } from './sources/model-source.js'

export { resolveSource } from './browser/page-source.js'

declare const REALM_VERSION: string

/** This package's version. */
export const version: string = REALM_VERSION

let opening: Promise<BrowserBinding> | undefined
let opened: BrowserBinding | undefined

/**
 * The engine, ready for calls that do not wait. Fetched on the first call, in the build for the
 * first of these backends that works here.
 */
export async function openBinding(backends: string[], device: string): Promise<Binding> {
  opening ??= BrowserBinding.open(backends, device)
  try {
    opened = await opening
  } catch (error) {
    // The network may be back the next time.
    opening = undefined
    throw error
  }
  return opened
}

/**
 * The engine, at once.
 * @throws RealmError BACKEND_UNAVAILABLE  before `Realm.create` has fetched it
 */
export function binding(): Binding {
  if (opened !== undefined) return opened
  throw new RealmError(
    'BACKEND_UNAVAILABLE',
    'the engine has not been fetched yet; await Realm.create() first',
  )
}

/** There is one cache per origin. */
export function modelCache(settings: Partial<SourceSettings> = {}): ModelCache {
  return browserCache(settings.hubEndpoint)
}
