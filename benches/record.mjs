/** Results kept in the repository: one file per kind of machine in `record/`. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'record')

/** What decides how fast this machine is; nothing that tells one machine of a kind from another. */
export function machine() {
  return {
    processor: processorName(),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
  }
}

/**
 * Adds a result to this kind of machine's file, in place of an earlier one of the same `run`.
 * @returns the path of the file
 */
export function addToRecord(result) {
  const kind = machine()
  const slug = `${kind.processor} ${kind.cores} cores ${kind.platform}`
  const path = join(FOLDER, `${slug.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.json`)
  const earlier = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).results : []
  const run = JSON.stringify(result.run)
  const results = [...earlier.filter((other) => JSON.stringify(other.run) !== run), result]
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(path, `${JSON.stringify({ machine: kind, results }, null, 2)}\n`)
  return path
}

/** Virtual machines hide the product's number; family and model still name the core. */
function processorName() {
  const name = cpus()[0].model.trim()
  if (process.platform !== 'linux' || process.arch !== 'x64') return name
  const info = readFileSync('/proc/cpuinfo', 'utf8')
  const [family, model] = ['cpu family', 'model'].map(
    (key) => info.match(new RegExp(`^${key}\\s*:\\s*(\\d+)$`, 'm'))[1],
  )
  return `${name} (family ${family} model ${model})`
}
