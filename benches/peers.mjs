/**
 * `npm run bench:peers -- --model FILE|SHAPE:TYPE`: Realm and node-llama-cpp on
 * the same file, threads and token ids. Options and columns: README.md here.
 */

import { existsSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { modelFile } from './models.mjs'
import { addToRecord, machine } from './record.mjs'
import { runRounds, summarise } from './rounds.mjs'

/** Columns: figure of a sample, title, unit it is divided by, digits, and whether more is better. */
const COLUMNS = [
  { figure: 'promptRate', title: 'prompt tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'decodeRate', title: 'decode tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'loadMs', title: 'load ms', unit: 1, digits: 0 },
  { figure: 'firstAnswerMs', title: 'first answer ms', unit: 1, digits: 0 },
  { figure: 'residentBytes', title: 'resident MiB', unit: 2 ** 20, digits: 0 },
  { figure: 'peakResidentBytes', title: 'peak MiB', unit: 2 ** 20, digits: 0 },
  { figure: 'otherCores', title: 'others, cores', unit: 1, digits: 2 },
]

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    prompt: { type: 'string', default: '512' },
    decode: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
    engines: { type: 'string', default: 'realm,node-llama-cpp' },
    layout: { type: 'string' },
    record: { type: 'boolean', default: false },
  },
})
if (options.model === undefined) {
  console.error('--model FILE or --model SHAPE:TYPE is missing; see benches/README.md')
  process.exit(2)
}

const path = existsSync(options.model) ? options.model : await modelFile(options.model)
const engines = options.engines.split(',')
const job = {
  path,
  threads: Number(options.threads),
  promptTokens: Number(options.prompt),
  decodeTokens: Number(options.decode),
  contextLength: Number(options.prompt) + Number(options.decode) + 1,
  loadOptions: options.layout === undefined ? {} : { layout: options.layout },
}
const { processor, cores, platform } = machine()
console.log(`${basename(path)}, ${(statSync(path).size / 2 ** 20).toFixed(0)} MiB`)
console.log(`${processor}, ${cores} cores, ${platform}, node ${process.version}`)
console.log(
  `${job.threads} threads, prompt of ${job.promptTokens}, ${job.decodeTokens} tokens decoded, ` +
    `${options.rounds} rounds`,
)

const samples = await runRounds(engines, job, Number(options.rounds), (name, sample) => {
  console.error(
    `  ${name}: ${COLUMNS.map((c) => `${c.title} ${format(c, sample[c.figure])}`).join(', ')}`,
  )
})
const summaries = engines.map((name) => summarise(samples[name]))
printTable(engines, summaries)
if (engines.length === 2) printAgreement(...engines.map((name) => samples[name][0].tokens))
if (options.record) console.log(`recorded in ${addToRecord(toRecord())}`)

function format({ unit, digits }, value) {
  return (value / unit).toFixed(digits)
}

/** One row per engine, each cell `median (min-max)`; below, how many times better the first is. */
function printTable(names, summaries) {
  const rows = [['', ...COLUMNS.map(({ title }) => title)]]
  for (const [i, name] of names.entries()) {
    const cells = COLUMNS.map((column) => {
      const { median, min, max } = summaries[i][column.figure]
      return `${format(column, median)} (${format(column, min)}-${format(column, max)})`
    })
    rows.push([`${name} ${samples[name][0].version}`, ...cells])
  }
  if (names.length === 2) {
    const cells = COLUMNS.map(({ figure, moreIsBetter }) => {
      if (figure === 'otherCores') return ''
      const [ours, theirs] = summaries.map((summary) => summary[figure].median)
      return `${(moreIsBetter ? ours / theirs : theirs / ours).toFixed(2)}x`
    })
    rows.push(['ratio of medians', ...cells])
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  for (const row of rows) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
  }
}

/** Greedy answers part where two logits are closer than the engines' rounding. */
function printAgreement(ours, theirs) {
  const parting = ours.findIndex((token, i) => token !== theirs[i])
  const nEqual = parting === -1 ? ours.length : parting
  console.log(`both answers begin with the same ${nEqual} of ${ours.length} tokens`)
}

function toRecord() {
  const { promptTokens, decodeTokens, threads } = job
  const layout = options.layout ?? 'default'
  return {
    run: { model: basename(path, '.gguf'), threads, promptTokens, decodeTokens, layout, engines },
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    rounds: Number(options.rounds),
    results: Object.fromEntries(
      engines.map((name, i) => [name, { version: samples[name][0].version, ...summaries[i] }]),
    ),
  }
}
