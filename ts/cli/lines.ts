/**
 * Lines from standard input: typed on a terminal, or from a pipe or a file.
 *
 * On a terminal they can be edited, and several lines that are pasted are one message. The
 * terminal is in raw mode all the time, so that keys reach this process instead of being signals:
 * what is typed while something is written waits, unseen, until the next prompt.
 */

import { createInterface, emitKeypressEvents, type Interface } from 'node:readline'
import { Writable } from 'node:stream'

const PROMPT = '> '
/** Make a terminal say where pasted text begins and ends, and stop it from doing so. */
const MARK_PASTES = '\x1b[?2004h'
const MARK_NO_PASTES = '\x1b[?2004l'

/** The terminal as line editing sees it, which can be kept from writing there. */
class Screen extends Writable {
  readonly isTTY = true
  isMuted = false

  get columns(): number {
    return process.stdout.columns
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    if (!this.isMuted) process.stdout.write(chunk)
    done()
  }
}

export class Lines {
  readonly #screen: Screen | undefined
  readonly #interface: Interface
  readonly #resized = () => this.#screen?.emit('resize')
  /** Lines that nobody has asked for yet. */
  readonly #ready: { text: string; isShown: boolean }[] = []
  #pasted: string[] = []
  #isPasting = false
  #isClosed = false
  /** Ends what is written, if something is. */
  #interrupt: (() => void) | undefined
  #wake = () => {}

  constructor() {
    const { stdin, stdout } = process
    if (stdin.isTTY && stdout.isTTY) {
      this.#screen = new Screen()
      stdout.on('resize', this.#resized)
      stdout.write(MARK_PASTES)
      // Before the line editor, which turns the last key of a pasted line into a line.
      emitKeypressEvents(stdin)
      stdin.on('keypress', this.#pressed)
    }
    this.#interface = createInterface({
      input: stdin,
      output: this.#screen,
      terminal: this.#screen !== undefined,
      prompt: PROMPT,
    })
    this.#interface.on('line', (line) => this.#typed(line))
    this.#interface.on('SIGINT', () => this.#onInterrupt())
    this.#interface.on('close', () => this.#onClose())
  }

  /** Whether somebody types them. */
  get isTerminal(): boolean {
    return this.#screen !== undefined
  }

  /** Asks for a line; undefined when there are no more. */
  async next(): Promise<string | undefined> {
    let line = this.#ready.shift()
    if (line?.isShown === false && this.isTerminal) process.stdout.write(`${PROMPT}${line.text}\n`)
    if (line === undefined && !this.#isClosed) {
      if (this.isTerminal) this.#interface.prompt(true)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      line = this.#ready.shift()
    }
    return line?.text
  }

  /**
   * Runs `work`, which writes. Ctrl-C calls `interrupt` meanwhile, and so does the end of what is
   * typed on a terminal.
   */
  async during(interrupt: () => void, work: () => Promise<void>): Promise<void> {
    this.#interrupt = interrupt
    process.once('SIGINT', interrupt)
    if (this.#screen !== undefined) this.#screen.isMuted = true
    try {
      await work()
    } finally {
      if (this.#screen !== undefined) this.#screen.isMuted = false
      process.off('SIGINT', interrupt)
      this.#interrupt = undefined
    }
  }

  /** Gives the terminal back as it was. Any number of calls. */
  close(): void {
    this.#interface.close()
    process.stdin.off('keypress', this.#pressed)
    if (this.#screen === undefined) return
    process.stdout.off('resize', this.#resized)
    process.stdout.write(MARK_NO_PASTES)
  }

  readonly #pressed = (_text: string | undefined, key: { name?: string } | undefined) => {
    if (key?.name === 'paste-start') this.#isPasting = true
    if (key?.name === 'paste-end') this.#isPasting = false
  }

  #typed(line: string): void {
    this.#pasted.push(line)
    if (this.#isPasting) return
    const text = this.#pasted.join('\n')
    this.#pasted = []
    this.#ready.push({ text, isShown: this.#interrupt === undefined })
    this.#wake()
  }

  /** Ends the answer; between answers what is typed, and the chat where nothing is. */
  #onInterrupt(): void {
    if (this.#interrupt !== undefined) this.#interrupt()
    else if (this.#interface.line === '' && this.#pasted.length === 0) this.#interface.close()
    else {
      this.#pasted = []
      this.#interface.write(null, { ctrl: true, name: 'e' })
      this.#interface.write(null, { ctrl: true, name: 'u' })
    }
  }

  #onClose(): void {
    this.#isClosed = true
    if (this.isTerminal) {
      // Whoever ends the chat wants no answer to what was typed before.
      this.#ready.length = 0
      if (this.#interrupt === undefined) process.stdout.write('\n')
      else this.#interrupt()
    }
    this.#wake()
  }
}
