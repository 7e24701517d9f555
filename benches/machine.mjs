/** The machine that a result belongs to. */

import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'

/** What decides how fast this machine is; nothing that tells one machine of a kind from another. */
export function machine() {
  return {
    processor: processorName(),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
  }
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
