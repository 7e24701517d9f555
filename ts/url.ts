/**
 * Addresses as they may be shown and stored.
 */

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
