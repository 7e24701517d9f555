/**
 * Results kept in the repository: one file per kind of machine in `record/`, and a README with
 * the tables of all.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { machine } from './machine.mjs'
import { markdownTable, tableOf, titleOf } from './table.mjs'

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'record')

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
  writeFileSync(join(FOLDER, 'README.md'), readme())
  return path
}

/** The day of a result. */
export function today() {
  return new Date().toISOString().slice(0, 10)
}

/** Every table of every machine. */
function readme() {
  const machines = readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')))
  const sections = machines.flatMap(({ machine, results }) => [
    `## ${machine.processor}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.platform}`,
    ...results.flatMap((result) => [
      `### ${titleOf(result)} (${result.date})`,
      markdownTable(tableOf(result)),
    ]),
  ])
  const head = [
    '# Record',
    'Written by the benches with `--record` from the JSON files here; ../README.md says how to repeat them.',
  ]
  return `${[...head, ...sections].join('\n\n')}\n`
}
