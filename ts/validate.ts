/**
 * Checks what users pass in. Options are described by tables of fields; a wrong
 * one gives INVALID_ARGUMENT with its name, what was found and what was expected.
 */

import { messageOf, RealmError } from './errors.js'

/** How one option is read. */
export interface Field<T> {
  /** What is accepted, in words. */
  readonly expected: string
  /** The value when the option is absent or undefined. */
  readonly fallback: T
  /** The value in its final form, or undefined when it is not acceptable. */
  readonly parse: (value: unknown) => T | undefined
}

type Fields = Readonly<Record<string, Field<unknown>>>

/** What a table of fields reads. */
export type Values<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never
}

/** A value as it is shown in an error message. Never throws. */
export function shown(value: unknown): string {
  try {
    return description(value)
  } catch {
    return 'an object that cannot be shown'
  }
}

function description(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'string') {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  }
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object') {
    const name: unknown = value.constructor?.name
    return `an object (${typeof name === 'string' ? name : 'no class'})`
  }
  if (typeof value === 'function') return 'a function'
  return String(value)
}

/** The error for an argument that cannot be used. */
export function invalid(what: string, expected: string, found: unknown): RealmError {
  return new RealmError('INVALID_ARGUMENT', `${what}: expected ${expected}, got ${shown(found)}`)
}

/**
 * Reads what a caller gave. Its getters and proxies may throw anything: that becomes the cause of
 * an INVALID_ARGUMENT.
 */
export function reading<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof RealmError) throw error
    throw new RealmError('INVALID_ARGUMENT', `${what}: could not be read: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

/** An options object as it is now, without what is undefined. */
export function copyOptions(what: string, given: unknown): Record<string, unknown> {
  return reading(what, () => {
    const members = Object.entries(requireObject(what, given))
    return Object.fromEntries(members.filter(([, value]) => value !== undefined))
  })
}

/** The items of an array, holes included, as `parse` gives them; undefined when it refuses one. */
export function items<T>(
  list: readonly unknown[],
  parse: (item: unknown) => T | undefined,
): T[] | undefined {
  const parsed: T[] = []
  for (let i = 0; i < list.length; i++) {
    const item = parse(list[i])
    if (item === undefined) return undefined
    parsed.push(item)
  }
  return parsed
}

/**
 * Reads an options object.
 *
 * @param what   name of the object in error messages, such as 'generate options'
 * @param given  what the user passed
 * @param fields every option that exists
 * @param later  names that the API reserves and that do nothing yet
 */
export function readOptions<F extends Fields>(
  what: string,
  given: unknown,
  fields: F,
  later: readonly string[] = [],
): Values<F> {
  return reading(what, () => readFields(what, requireObject(what, given), fields, later))
}

function requireObject(what: string, given: unknown): Record<string, unknown> {
  if (given === undefined) return {}
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw invalid(what, 'an object', given)
  return given as Record<string, unknown>
}

function readFields<F extends Fields>(
  what: string,
  options: Record<string, unknown>,
  fields: F,
  later: readonly string[],
): Values<F> {
  for (const name of Object.keys(options)) {
    if (options[name] === undefined || Object.hasOwn(fields, name)) continue
    throw new RealmError(
      'INVALID_ARGUMENT',
      later.includes(name)
        ? `${what}.${name} is not supported yet`
        : `${what}.${name} is not an option; expected one of: ${Object.keys(fields).join(', ')}`,
    )
  }
  const values: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(fields)) {
    const value = options[name]
    values[name] = value === undefined ? field.fallback : read(`${what}.${name}`, value, field)
  }
  return values as Values<F>
}

function read<T>(what: string, value: unknown, field: Field<T>): T {
  const parsed = field.parse(value)
  if (parsed === undefined) throw invalid(what, field.expected, value)
  return parsed
}

/** A whole number from `min` to `max`. */
export function integer<D>(min: number, max: number, fallback: D): Field<number | D> {
  return {
    expected:
      max === Number.MAX_SAFE_INTEGER
        ? `an integer of at least ${min}`
        : `an integer from ${min} to ${max}`,
    fallback,
    parse: (value) => (isInteger(value, min, max) ? value : undefined),
  }
}

/** A number from `min` to `max`. */
export function number(min: number, max: number, fallback: number): Field<number> {
  return {
    expected: `a number from ${min} to ${max}`,
    fallback,
    parse: (value) =>
      typeof value === 'number' && value >= min && value <= max ? value : undefined,
  }
}

/** true or false. */
export function boolean(fallback: boolean): Field<boolean> {
  return {
    expected: 'true or false',
    fallback,
    parse: (value) => (typeof value === 'boolean' ? value : undefined),
  }
}

/** A string that is not empty. */
export function string<D>(expected: string, fallback: D): Field<string | D> {
  return {
    expected,
    fallback,
    parse: (value) => (typeof value === 'string' && value !== '' ? value : undefined),
  }
}

/** An address of a server. */
export function httpAddress<D>(fallback: D): Field<string | D> {
  return {
    expected: 'an http(s) address',
    fallback,
    parse: (value) => (isHttpAddress(value) ? value : undefined),
  }
}

/** Whether a text is an address of a server. */
export function isHttpAddress(value: unknown): value is string {
  return typeof value === 'string' && /^https?:/i.test(value) && URL.canParse(value)
}

/** One of a few words. */
export function oneOf<T extends string>(words: readonly T[], fallback: T): Field<T> {
  return {
    expected: words.map((word) => `'${word}'`).join(' or '),
    fallback,
    parse: (value) => words.find((word) => word === value),
  }
}

/** A string or a list of strings, none of them empty; always read as a list. */
export function strings(fallback: readonly string[]): Field<string[]> {
  return {
    expected: 'a string or an array of strings, none of them empty',
    fallback: [...fallback],
    parse: (value) =>
      items(Array.isArray(value) ? value : [value], (item) =>
        typeof item === 'string' && item !== '' ? item : undefined,
      ),
  }
}

/** Something that is absent or passes a test. */
export function optional<T>(
  expected: string,
  test: (value: unknown) => value is T,
): Field<T | undefined> {
  return { expected, fallback: undefined, parse: (value) => (test(value) ? value : undefined) }
}

/** An AbortSignal, or anything that works like one. */
export const signalField: Field<AbortSignal | undefined> = optional(
  'an AbortSignal',
  (value): value is AbortSignal => {
    if (typeof value !== 'object' || value === null) return false
    const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>
    return (
      typeof aborted === 'boolean' &&
      typeof addEventListener === 'function' &&
      typeof removeEventListener === 'function'
    )
  },
)

/** Whether a value is a whole number in a range. */
export function isInteger(
  value: unknown,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max
}

/** Checks a whole number that is an argument of its own. */
export function requireInteger(what: string, value: unknown, min: number, max?: number): number {
  const field = integer(min, max ?? Number.MAX_SAFE_INTEGER, 0)
  return read(what, value, field)
}

/** Checks a string that is an argument of its own. */
export function requireString(what: string, value: unknown): string {
  if (typeof value !== 'string') throw invalid(what, 'a string', value)
  return value
}
