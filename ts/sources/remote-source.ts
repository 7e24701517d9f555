/**
 * Reads sources that say more about a server than an address.
 */

import { optional, readOptions, string } from '../validate.js'
import type { RemoteSource } from './model-source.js'
import { parseUrl } from './url.js'

const REMOTE = {
  url: optional(
    'an http(s) address',
    (value): value is string | URL => typeof value === 'string' || value instanceof URL,
  ),
  cacheKey: string('a name for what is stored', undefined),
  headers: optional('an object of strings', isHeaders),
}

/** Whether something is a `RemoteSource`, going by its shape. */
export function isRemote(source: unknown): source is RemoteSource {
  return typeof source === 'object' && source !== null && 'url' in source
}

/** A `RemoteSource` whose members are what they should be. */
export interface CheckedRemote {
  url: URL
  cacheKey: string | undefined
  headers: Readonly<Record<string, string>> | undefined
}

/** @throws RealmError INVALID_ARGUMENT */
export function readRemote(source: RemoteSource, base?: string): CheckedRemote {
  const { url, ...rest } = readOptions('model source', source, REMOTE)
  return { ...rest, url: parseUrl(url, base) }
}

function isHeaders(value: unknown): value is Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  if (!Object.values(value).every((item) => typeof item === 'string')) return false
  try {
    new Headers(value as Record<string, string>)
    return true
  } catch {
    return false
  }
}
