/**
 * The conformance kit, case by case, and the page that shows it.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { openKit } from './conformance/kit.mjs'
import { runCase } from './conformance/run.mjs'
import { conformanceKit, root } from './support/models.mjs'

const kit = openKit(conformanceKit())
/** Families that nobody has taught the engine yet. */
const NOT_YET = ['logits/gemma4']
const kinds = new Set(kit.cases.map(({ kind }) => kind))

for (const kind of kinds) {
  describe(`conformance: ${kind}`, () => {
    for (const entry of kit.cases.filter((candidate) => candidate.kind === kind)) {
      it(entry.id, async (t) => {
        const result = await runCase(kit, entry)
        t.diagnostic(`worst ${result.worst} of ${result.bound}`)
        assert.equal(result.status, NOT_YET.includes(entry.id) ? 'missing' : 'pass', result.note)
      })
    }
  })
}

it('docs/conformance.md has a line for every case, and all pass there', () => {
  const lines = readFileSync(join(root, 'docs', 'conformance.md'), 'utf8').split('\n')
  const shown = lines.map((line) => line.split(' | ')).filter((cells) => cells.length === 5)
  const passed = shown.filter((cells) => cells[4] === 'pass |').map(([id]) => id.slice(2))
  assert.deepEqual(
    passed,
    kit.cases.map(({ id }) => id).filter((id) => !NOT_YET.includes(id)),
  )
})
