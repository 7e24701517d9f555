/** Speed of a download: over the last seconds, so that it follows the network but does not jump. */

const WINDOW_MS = 5000

export class Speed {
  #samples: { time: number; bytes: number }[] = []

  /** Takes note of how many bytes there are now. */
  add(bytes: number, time = performance.now()): void {
    this.#samples.push({ time, bytes })
    while (this.#samples.length > 2 && time - (this.#samples[0]?.time ?? time) > WINDOW_MS)
      this.#samples.shift()
  }

  /** Bytes per second; undefined until there is something to go by. */
  get bytesPerSecond(): number | undefined {
    const [first] = this.#samples
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined || last.time - first.time < 500) return undefined
    return ((last.bytes - first.bytes) * 1000) / (last.time - first.time)
  }
}
