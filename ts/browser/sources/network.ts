/**
 * What a browser's downloads use of their platform.
 */

import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { NetworkPlatform } from '../../download/context.js'

/** The browser's own digest wants all bytes at once, which a model is too large for. */
export const browserNetwork: NetworkPlatform = {
  // Kept by us, so not by the browser's cache as well.
  fetch: (url, init) => fetch(url, { ...init, cache: 'no-store' }),
  hasConditionalRanges: false,
  createHash: () => {
    const hash = sha256.create()
    return { update: (bytes) => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) }
  },
}
