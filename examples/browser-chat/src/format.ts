/** Numbers as people read them. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB']

/** Bytes with a unit and three digits at most: `1.25 GB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** Seconds in words: `80 ms`, `40 s`, `3 min`, `1 h 20 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Tokens per second. */
export function formatRate(tokens: number, milliseconds: number): string {
  const rate = (tokens * 1000) / milliseconds
  return `${rate >= 100 ? rate.toFixed(0) : rate.toFixed(1)} tokens/s`
}

/** A count of parameters: `15.2 M`, `7.24 B`. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toPrecision(3)} B`
  return count >= 1e6 ? `${(count / 1e6).toPrecision(3)} M` : String(count)
}

/** How long ago: `just now`, `3 hours ago`. */
export function formatAgo(date: Date): string {
  const minutes = Math.round((Date.now() - date.getTime()) / 60_000)
  if (minutes < 1) return 'just now'
  const format = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
  if (minutes < 60) return format.format(-minutes, 'minute')
  if (minutes < 36 * 60) return format.format(-Math.round(minutes / 60), 'hour')
  return format.format(-Math.round(minutes / 1440), 'day')
}
