/**
 * Reference logits, in a page: on the CPU, and through WebGPU on Chromium's device in software.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { openKit } from '../conformance/kit.mjs'
import { runCase } from '../conformance/run.mjs'
import { conformanceKit } from '../support/models.mjs'
import { BROWSER_KINDS, openBrowserKit } from './support/browser-kit.mjs'

const { cases } = openKit(conformanceKit())

for (const backend of ['cpu', 'webgpu']) {
  describe(`conformance in a page on ${backend}`, () => {
    let browser
    let kit

    before(async () => {
      browser = await openBrowserKit(backend)
      kit = openKit(conformanceKit(), backend, browser.how)
    })

    after(() => browser?.close())

    for (const entry of cases.filter(({ kind }) => BROWSER_KINDS.includes(kind))) {
      it(entry.id, async (t) => {
        const result = await runCase(kit, entry)
        t.diagnostic(`worst ${result.worst} of ${result.bound}`)
        assert.equal(result.status, 'pass', result.note)
      })
    }
  })
}
