/**
 * `npm run bench -- --model FILE|SHAPE:TYPE`: Realm alone, after prompts of
 * several lengths. Options and columns: README.md here.
 */

import { parseArgs } from 'node:util'
import { RUN_OPTIONS, readRunOptions } from './options.mjs'
import { runRounds, summarise } from './rounds.mjs'
import { COLUMNS, printHeading, printSample, printTable, summaryCell } from './table.mjs'

const { values } = parseArgs({
  options: { ...RUN_OPTIONS, contexts: { type: 'string', default: '16,512,4096' } },
})
const { path, nRounds, jobFor } = await readRunOptions(values)
const contexts = values.contexts.split(',').map(Number)
printHeading(path, `Realm on ${values.threads} threads, ${nRounds} rounds`)
const rows = []
for (const context of contexts) {
  const { realm } = await runRounds(['realm'], jobFor(context), nRounds, printSample)
  const summary = summarise(realm)
  rows.push([String(context), ...COLUMNS.map((column) => summaryCell(column, summary))])
}
printTable([['prompt', ...COLUMNS.map(({ title }) => title)], ...rows])
