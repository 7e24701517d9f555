/**
 * `npm run bench -- --model FILE|SHAPE:TYPE`: Realm alone, with nothing, some and much before
 * the prompt, by `realm bench`. Options and columns: README.md here.
 */

import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { count, RUN_OPTIONS, readRunOptions } from './options.mjs'
import { addToRecord, today } from './record.mjs'
import { lastLine, readWhole, summarise } from './rounds.mjs'
import { printHeading, printSample, printTable, tableOf } from './table.mjs'

const REALM = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist', 'bin.js')

const { values } = parseArgs({
  options: {
    ...RUN_OPTIONS,
    contexts: { type: 'string', default: '0,512,4096' },
    prompt: { type: 'string', default: '512' },
  },
})
const { path, threads, nRounds, decodeTokens } = await readRunOptions(values)
const promptTokens = count('prompt', values.prompt)
const layout = values.layout ?? 'auto'
const contexts = values.contexts.split(',')
printHeading(path, `Realm on ${threads} threads, ${nRounds} rounds`)

await readWhole(path)
const samples = contexts.map(() => [])
for (let round = 0; round < nRounds; round++) {
  const { memoryBytesPerSecond, rates } = measure()
  for (const [i, rate] of rates.entries()) {
    const sample = { memoryBytesPerSecond, ...rate }
    samples[i].push(sample)
    printSample(`context ${rate.context}`, sample)
  }
}
const result = {
  run: {
    bench: 'contexts',
    model: basename(path, '.gguf'),
    threads,
    promptTokens,
    decodeTokens,
    layout,
  },
  date: today(),
  node: process.version,
  rounds: nRounds,
  results: samples.map(summarise),
}
printTable(tableOf(result))
if (values.record) console.log(`recorded in ${addToRecord(result)}`)

/** One round, in a process of its own. */
function measure() {
  const options = { threads, prompt: promptTokens, decode: decodeTokens, layout }
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  return lastLine('realm', [REALM, 'bench', path, '--json', '--context', values.contexts, ...flags])
}
