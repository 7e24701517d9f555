/**
 * `npm run bench:peers -- --model FILE|SHAPE:TYPE`: Realm and node-llama-cpp on
 * the same file, threads and token ids. Options and columns: README.md here.
 */

import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { count, RUN_OPTIONS, readRunOptions } from './options.mjs'
import { addToRecord, today } from './record.mjs'
import { runRounds, summarise } from './rounds.mjs'
import { printHeading, printSample, printTable, tableOf } from './table.mjs'

const { values } = parseArgs({
  options: {
    ...RUN_OPTIONS,
    prompt: { type: 'string', default: '512' },
    engines: { type: 'string', default: 'realm,node-llama-cpp' },
  },
})
const { path, nRounds, jobFor } = await readRunOptions(values)
const engines = values.engines.split(',')
const job = jobFor(count('prompt', values.prompt))
printHeading(
  path,
  `${job.threads} threads, prompt of ${job.promptTokens}, ${job.decodeTokens} tokens decoded, ` +
    `${nRounds} rounds`,
)

const samples = await runRounds(engines, job, nRounds, printSample)
const result = toResult()
printTable(tableOf(result))
if (engines.length === 2) printAgreement(...engines.map((name) => samples[name][0].tokens))
if (values.record) console.log(`recorded in ${addToRecord(result)}`)

/** Greedy answers part where two logits are closer than the engines' rounding. */
function printAgreement(ours, theirs) {
  const parting = ours.findIndex((token, i) => token !== theirs[i])
  const nEqual = parting === -1 ? ours.length : parting
  console.log(`both answers begin with the same ${nEqual} of ${ours.length} tokens`)
}

function toResult() {
  const { promptTokens, decodeTokens, threads } = job
  const layout = values.layout ?? 'default'
  const model = basename(path, '.gguf')
  return {
    run: { bench: 'peers', model, threads, promptTokens, decodeTokens, layout, engines },
    date: today(),
    node: process.version,
    rounds: nRounds,
    results: Object.fromEntries(
      engines.map((name) => [
        name,
        { version: samples[name][0].version, ...summarise(samples[name]) },
      ]),
    ),
  }
}
