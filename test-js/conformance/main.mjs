/**
 * The conformance table on the command line.
 */

import { parseArgs } from 'node:util'
import { conformanceKit } from '../support/models.mjs'
import { openKit } from './kit.mjs'
import { kinds, runCase } from './run.mjs'

/**
 * @param args [--kit DIR] [--only GLOB] [--json]
 * @returns exit code: 1 when a case failed, 2 when none was run
 */
export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      kit: { type: 'string' },
      only: { type: 'string', default: '*' },
      json: { type: 'boolean', default: false },
    },
  })
  const kit = openKit(values.kit ?? conformanceKit())
  const pattern = globPattern(values.only)
  const chosen = kit.cases.filter(({ id }) => pattern.test(id))
  const results = []
  for (const entry of chosen.filter(({ kind }) => kinds.includes(kind))) {
    const result = await runCase(kit, entry)
    results.push(result)
    if (!values.json) console.log(line(result))
  }
  if (values.json) console.log(JSON.stringify(results, null, 1))
  else summarise(results, chosen)
  if (results.length === 0) return 2
  return results.some(({ status }) => status === 'fail') ? 1 : 0
}

function line({ id, kind, status, worst, bound, note }) {
  const numbers = [worst, bound].map((value) =>
    (value === null ? '-' : Number(value.toPrecision(3)).toString()).padStart(9),
  )
  // The kind is the first part of most ids, but not of all.
  return `${status.padEnd(8)}${kind.padEnd(14)}${id.padEnd(56)}${numbers.join(' ')}  ${note}`
}

function summarise(results, chosen) {
  const count = (status) => results.filter((result) => result.status === status).length
  console.log(`\n${count('pass')} passed, ${count('fail')} failed, ${count('missing')} missing`)
  const elsewhere = chosen.filter(({ kind }) => !kinds.includes(kind)).map(({ kind }) => kind)
  for (const kind of new Set(elsewhere)) {
    const n = elsewhere.filter((other) => other === kind).length
    console.log(`${n} of kind ${kind} not run here`)
  }
}

/** '*' stands for any text, '?' for one character. */
function globPattern(glob) {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`)
}
