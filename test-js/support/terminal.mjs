/**
 * A program on a pseudo-terminal, which Node has no means to open: `script` of util-linux does.
 */

import { spawn } from 'node:child_process'

/** How long a program may show nothing of what is expected before it counts as stuck. */
const PATIENCE_MS = 60_000

export const CTRL_C = '\x03'
export const CTRL_D = '\x04'
export const ENTER = '\r'
export const LEFT = '\x1b[D'
export const UP = '\x1b[A'
export const paste = (text) => `\x1b[200~${text.replaceAll('\n', '\r')}\x1b[201~`

export class Terminal {
  /** All that was written to it. */
  screen = ''
  #child
  #seen = 0
  #heard = () => {}
  #status

  /** Runs a program on a terminal of 80 columns. */
  constructor(program, args) {
    const quoted = [program, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`)
    const command = `stty rows 24 cols 80; exec ${quoted.join(' ')}`
    const options = ['--quiet', '--return', '--command', command, '/dev/null']
    this.#child = spawn('script', options, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout.setEncoding('utf8').on('data', (data) => {
      this.screen += data
      this.#heard()
    })
    this.#status = new Promise((resolve, reject) => {
      this.#child.on('error', reject)
      this.#child.on('close', (code) => {
        this.#heard()
        resolve(code)
      })
    })
  }

  type(keys) {
    this.#child.stdin.write(keys)
  }

  /** Waits until `text` is written behind what was waited for before, and gives what is between. */
  async shows(text) {
    let place = this.screen.indexOf(text, this.#seen)
    while (place < 0) {
      if (this.#child.exitCode !== null) throw new Error(`ended without ${text}: ${this.screen}`)
      await this.#patiently(new Promise((resolve) => (this.#heard = resolve)), `show ${text}`)
      place = this.screen.indexOf(text, this.#seen)
    }
    const between = this.screen.slice(this.#seen, place)
    this.#seen = place + text.length
    return between
  }

  /** Waits until the program ends, and gives its exit code. */
  ends() {
    return this.#patiently(this.#status, 'end')
  }

  async #patiently(promise, what) {
    let timer
    const stuck = new Promise((_, reject) => {
      timer = setTimeout(() => {
        this.#child.kill('SIGKILL')
        reject(new Error(`does not ${what}: ${JSON.stringify(this.screen)}`))
      }, PATIENCE_MS)
    })
    try {
      return await Promise.race([promise, stuck])
    } finally {
      clearTimeout(timer)
    }
  }
}
