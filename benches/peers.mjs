/**
 * `npm run bench:peers -- --model FILE|SHAPE:TYPE`: Realm and node-llama-cpp on
 * the same file, threads and token ids. Options and columns: README.md here.
 */

import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { count, RUN_OPTIONS, readRunOptions } from './options.mjs'
import { addToRecord } from './record.mjs'
import { runRounds, summarise } from './rounds.mjs'
import { COLUMNS, printHeading, printSample, printTable, summaryCell } from './table.mjs'

const { values } = parseArgs({
  options: {
    ...RUN_OPTIONS,
    prompt: { type: 'string', default: '512' },
    engines: { type: 'string', default: 'realm,node-llama-cpp' },
    record: { type: 'boolean', default: false },
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
const summaries = engines.map((name) => summarise(samples[name]))
const rows = engines.map((name, i) => [
  `${name} ${samples[name][0].version}`,
  ...COLUMNS.map((column) => summaryCell(column, summaries[i])),
])
if (engines.length === 2) {
  rows.push(['ratio of medians', ...COLUMNS.map((column) => ratioCell(column, summaries))])
}
printTable([['', ...COLUMNS.map(({ title }) => title)], ...rows])
if (engines.length === 2) printAgreement(...engines.map((name) => samples[name][0].tokens))
if (values.record) console.log(`recorded in ${addToRecord(toRecord())}`)

/** How many times better the first engine's median is than the second's. */
function ratioCell({ figure, moreIsBetter }, [ours, theirs]) {
  if (moreIsBetter === undefined) return ''
  const [a, b] = [ours[figure].median, theirs[figure].median]
  return `${(moreIsBetter ? a / b : b / a).toFixed(2)}x`
}

/** Greedy answers part where two logits are closer than the engines' rounding. */
function printAgreement(ours, theirs) {
  const parting = ours.findIndex((token, i) => token !== theirs[i])
  const nEqual = parting === -1 ? ours.length : parting
  console.log(`both answers begin with the same ${nEqual} of ${ours.length} tokens`)
}

function toRecord() {
  const { promptTokens, decodeTokens, threads } = job
  const layout = values.layout ?? 'default'
  return {
    run: { model: basename(path, '.gguf'), threads, promptTokens, decodeTokens, layout, engines },
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    rounds: nRounds,
    results: Object.fromEntries(
      engines.map((name, i) => [name, { version: samples[name][0].version, ...summaries[i] }]),
    ),
  }
}
