/**
 * What a browser's downloads use of their platform.
 */

import type { NetworkPlatform } from '../../download/context.js'
import { Sha256 } from './sha256.js'

/** The browser's own digest wants all bytes at once, which a model is too large for. */
export const browserNetwork: NetworkPlatform = {
  // Kept by us, so not by the browser's cache as well.
  fetch: (url, init) => fetch(url, { ...init, cache: 'no-store' }),
  hasConditionalRanges: false,
  createHash: () => new Sha256(),
}
