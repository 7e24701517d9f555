/**
 * A process that downloads, for the tests of what processes share: `node download-process.mjs
 * SOURCE OPTIONS` with options in JSON. Each line it prints is JSON: `{ progress }`, then
 * `{ path }` or `{ error }`.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const self = fileURLToPath(import.meta.url)
const print = (line) => console.log(JSON.stringify(line))

if (process.argv[1] === self) {
  const { resolveSource } = await import('../../dist/node/source.js')
  const [source, options] = process.argv.slice(2)
  try {
    const onProgress = (progress) => print({ progress })
    const given = JSON.parse(options)
    const { source: path } = await resolveSource(source, { ...given, onProgress })
    print({ path })
    // Until it is killed.
    if (given.stays) setInterval(() => {}, 1000)
  } catch ({ code, message }) {
    print({ error: { code, message } })
  }
}

/** Starts one. `lines` is what it printed so far; `end` resolves to its last line. */
export function startDownload(source, options) {
  const child = spawn(process.execPath, [self, source, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = []
  const reader = createInterface({ input: child.stdout })
  reader.on('line', (line) => lines.push(JSON.parse(line)))
  const closed = once(reader, 'close')
  return {
    lines,
    end: closed.then(() => lines.at(-1)),
    /** Waits until so much is there. */
    async reached(fraction) {
      while (!lines.some(({ progress }) => progress?.fraction >= fraction))
        await once(reader, 'line')
    },
    /** Ends it as a crash would. */
    async kill() {
      child.kill('SIGKILL')
      await closed
    },
  }
}
