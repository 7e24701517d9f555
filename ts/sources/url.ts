/**
 * Addresses to download from, and how they may be shown and stored.
 */

import { invalid } from '../validate.js'

/**
 * An address to download from.
 * @param base what a relative one is relative to; they are refused without
 * @throws RealmError INVALID_ARGUMENT
 */
export function parseUrl(source: string | URL | undefined, base?: string): URL {
  const url = URL.canParse(String(source), base) ? new URL(String(source), base) : undefined
  if (url !== undefined && ['http:', 'https:'].includes(url.protocol)) return url
  throw invalid('model source', 'an http(s) address', source)
}

/**
 * An address without what may be a secret in it: values of the query, which signed addresses are
 * made of, and passwords. Of what this gave, it gives the same.
 */
export function shownUrl(address: URL | string): string {
  const url = new URL(address)
  const names = [...new Set(url.searchParams.keys())]
  url.search = names.map((name) => `${encodeURIComponent(name)}=***`).join('&')
  url.username = ''
  url.password = ''
  url.hash = ''
  return url.href
}
