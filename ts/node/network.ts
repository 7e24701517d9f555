/**
 * What Node's downloads use of their platform.
 */

import { createHash } from 'node:crypto'
import type { NetworkPlatform } from '../download/context.js'
import { RealmError } from '../errors.js'
import { shownUrl } from '../sources/url.js'

/** Most redirections that are followed, as in browsers. */
const MAX_REDIRECTS = 20

/** Where a hub tells a file's checksum: in the answer that sends us on to its storage. */
const CHECKSUM_HEADER = 'x-linked-etag'

/** Headers that any server may see; the others are for the one that was named. */
const FOR_ALL = ['accept-encoding', 'if-range', 'range']

export const nodeNetwork: NetworkPlatform = {
  hasConditionalRanges: true,
  fetch: fetchTellingChecksum,
  createHash: () => {
    const hash = createHash('sha256')
    return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest('hex') }
  },
}

/** `fetch`, with the checksum header of any redirection among the headers of the answer. */
async function fetchTellingChecksum(first: URL, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers)
  let checksum: string | null = null
  let url = first
  for (let count = 0; count <= MAX_REDIRECTS; count += 1) {
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    checksum ??= response.headers.get(CHECKSUM_HEADER)
    const location = response.headers.get('location')
    if (location === null || ![301, 302, 303, 307, 308].includes(response.status))
      return checksum === null ? response : withHeader(response, CHECKSUM_HEADER, checksum)
    await response.body?.cancel()
    const next = new URL(location, url)
    if (url.protocol === 'https:' && next.protocol !== 'https:') {
      const text = `${shownUrl(first)}: redirects from https to ${shownUrl(next)}, where anybody can change the file`
      throw new RealmError('DOWNLOAD_FAILED', text)
    }
    // What is shown to one server is nobody else's business.
    if (next.origin !== url.origin)
      for (const name of [...headers.keys()]) if (!FOR_ALL.includes(name)) headers.delete(name)
    url = next
  }
  throw new Error(`more than ${MAX_REDIRECTS} redirections`)
}

/** The headers of an answer that came over the network cannot be changed. */
function withHeader(response: Response, name: string, value: string): Response {
  const { body, status, statusText } = response
  const headers = new Headers(response.headers)
  headers.set(name, value)
  return new Response(body, { status, statusText, headers })
}
