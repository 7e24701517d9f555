/**
 * What the command writes. Whoever reads it may leave, and a disk may be full.
 */

/** Standard output takes nothing more. */
export class OutputError extends Error {
  /** Nobody reads any more, such as `head` once it has what it wanted: no failure of ours. */
  readonly isUnread: boolean

  constructor(cause: NodeJS.ErrnoException) {
    super(`standard output cannot be written: ${cause.message}`, { cause })
    this.isUnread = cause.code === 'EPIPE'
  }
}

// Each write hears of its own failure; without a listener the first one would end the process.
process.stdout.on('error', () => {})
process.stderr.on('error', () => {})

/**
 * Writes to standard output, and waits until that has taken it.
 * @throws OutputError
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(new OutputError(error)) : resolve())
    try {
      process.stdout.write(text, done)
    } catch (error) {
      done(error as Error)
    }
  })
}

/** Writes a line that is no result: what went wrong, and how long things took. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** Shows a percentage on a terminal's error stream. */
export function percentage(what: string): (fraction: number) => void {
  let last = -1
  return (fraction) => {
    const percent = Math.floor(fraction * 100)
    if (percent === last || !process.stderr.isTTY) return
    last = percent
    process.stderr.write(`\r${what} ${percent} %${percent === 100 ? '\n' : ''}`)
  }
}
