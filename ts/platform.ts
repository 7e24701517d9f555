/**
 * What is different between Node and browsers. The browser build puts `platform.browser.ts` in
 * the place of this module; the two export the same.
 */

import type { Binding } from './binding.js'
import { loadBinding } from './load-binding.js'

export { version } from './load-binding.js'
export { diskCache as modelCache } from './node/disk-cache.js'
export { resolveSource } from './node/source.js'

/** The engine, ready for calls that do not wait. It has all backends, whichever are wanted. */
export async function openBinding(_backends: string[], _device: string): Promise<Binding> {
  return loadBinding()
}

/**
 * The engine, at once.
 * @throws RealmError BACKEND_UNAVAILABLE  it is not there
 */
export function binding(): Binding {
  return loadBinding()
}
