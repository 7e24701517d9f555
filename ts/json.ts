/**
 * Values of callers as JSON: what templates are rendered with, and what sessions keep.
 */

import { messageOf, RealmError } from './errors.js'
import { shown } from './validate.js'

/**
 * A value as JSON. Half of a surrogate pair becomes U+FFFD, as wherever text becomes UTF-8.
 *
 * @throws RealmError INVALID_ARGUMENT  JSON cannot hold it: functions, symbols, bigints, numbers
 *   that are not finite, cycles
 */
export function toJson(what: string, value: unknown): string {
  try {
    return wellFormed(JSON.stringify(value, refuse) ?? 'null')
  } catch (error) {
    throw new RealmError(
      'INVALID_ARGUMENT',
      `${what}: expected values that JSON can hold, got ${shown(value)}: ${messageOf(error)}`,
      { cause: error },
    )
  }
}

/**
 * A copy that shares nothing with the value.
 * @throws RealmError INVALID_ARGUMENT  JSON cannot hold it
 */
export function copyJson(what: string, value: unknown): unknown {
  return JSON.parse(toJson(what, value))
}

/** Refuses what JSON would leave out or turn into null. */
function refuse(key: string, value: unknown): unknown {
  const isHeld =
    typeof value !== 'function' &&
    typeof value !== 'symbol' &&
    (typeof value !== 'number' || Number.isFinite(value))
  if (isHeld) return value
  throw new TypeError(`${JSON.stringify(key)} is ${shown(value)}`)
}

/** JSON.stringify escapes halves of pairs, and only those, as \ud800 to \udfff. */
function wellFormed(json: string): string {
  if (!json.includes('\\ud')) return json
  // Every escape is matched, so that a backslash that is escaped itself begins none.
  return json.replace(/\\(?:u(d[89a-f]..)|.)/g, (found, half) => (half ? '\\ufffd' : found))
}
