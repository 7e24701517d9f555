/** Measures engines in turn, each time in a fresh process, and sums the rounds up. */

import { spawnSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MEASURE = join(dirname(fileURLToPath(import.meta.url)), 'measure.mjs')
const TIMEOUT_MS = 15 * 60 * 1000

/**
 * Runs every engine `nRounds` times, alternating, the order reversed in every other round.
 *
 * @param engines names of files in `engines/`
 * @param job     what `measure.mjs` takes; the same for all
 * @param onSample called with the engine's name and each sample
 * @returns       samples by engine: what `measure.mjs` prints
 */
export async function runRounds(engines, job, nRounds, onSample = () => {}) {
  await readWhole(job.path)
  const samples = Object.fromEntries(engines.map((name) => [name, []]))
  for (let round = 0; round < nRounds; round++) {
    for (const name of round % 2 === 0 ? engines : engines.toReversed()) {
      const sample = lastLine(name, [MEASURE, name, JSON.stringify(job)])
      samples[name].push(sample)
      onSample(name, sample)
    }
  }
  return samples
}

/** Median, least and greatest of each figure of an engine's samples. */
export function summarise(samples) {
  const figures = Object.keys(samples[0]).filter((key) => typeof samples[0][key] === 'number')
  const entries = figures.map((key) => {
    const sorted = samples.map((sample) => sample[key]).sort((a, b) => a - b)
    const middle = sorted.length / 2
    const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2
    return [key, { median, min: sorted[0], max: sorted.at(-1) }]
  })
  return Object.fromEntries(entries)
}

/**
 * The JSON in the last line that a program under Node prints. What it says went wrong is on
 * standard error; there is nothing to compare then.
 */
export function lastLine(name, args) {
  const { status, signal, stdout } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: TIMEOUT_MS,
  })
  if (status === 0) return JSON.parse(stdout.trim().split('\n').at(-1))
  console.error(`${name} failed: ${signal ?? `exit status ${status}`}`)
  process.exit(1)
}

/** Brings a file into the page cache, so that the first load finds what later ones find. */
export async function readWhole(path) {
  for await (const _ of createReadStream(path, { highWaterMark: 4 << 20 }));
}
