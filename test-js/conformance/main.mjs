/**
 * The conformance table on the command line, and the page made of it.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BROWSER_KINDS, openBrowserKit } from '../browser/support/browser-kit.mjs'
import { conformanceKit, root } from '../support/models.mjs'
import { openKit } from './kit.mjs'
import { page } from './page.mjs'
import { runCase } from './run.mjs'

/**
 * @param args [--kit DIR] [--only GLOB] [--backend NAME] [--browser] [--json] [--write]
 * @returns exit code: 1 when a case did not pass, 2 when none was run
 */
export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      kit: { type: 'string' },
      only: { type: 'string', default: '*' },
      backend: { type: 'string' },
      browser: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
    },
  })
  const browser = values.browser ? await openBrowserKit(values.backend ?? 'cpu') : undefined
  const kit = openKit(values.kit ?? conformanceKit(), values.backend, browser?.how)
  const pattern = globPattern(values.only)
  const results = []
  const isRun = ({ id, kind }) => pattern.test(id) && (!browser || BROWSER_KINDS.includes(kind))
  for (const entry of kit.cases.filter(isRun)) {
    const result = await runCase(kit, entry)
    results.push(result)
    if (!values.json) console.log(line(result))
  }
  await browser?.close()
  console.log(values.json ? JSON.stringify(results, null, 1) : `\n${summary(results)}`)
  if (values.write) writeFileSync(join(root, 'docs', 'conformance.md'), page(results))
  if (results.length === 0) return 2
  return results.every(({ status }) => status === 'pass') ? 0 : 1
}

function line({ id, kind, status, worst, bound, note }) {
  const numbers = [worst, bound].map((value) =>
    (value === null ? '-' : Number(value.toPrecision(3)).toString()).padStart(9),
  )
  // The kind is the first part of most ids, but not of all.
  return `${status.padEnd(8)}${kind.padEnd(14)}${id.padEnd(56)}${numbers.join(' ')}  ${note}`
}

/** In the words that test runners close with. */
function summary(results) {
  const count = (status) => results.filter((result) => result.status === status).length
  return `${count('pass')} passed, ${count('fail')} failed, ${count('missing')} missing`
}

/** '*' stands for any text, '?' for one character. */
function globPattern(glob) {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`)
}
