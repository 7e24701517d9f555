/**
 * Every kernel of matrix products in real browsers, as small products whose results are known:
 * f32 and int8 on Chromium's software adapter, f16 in Firefox, which takes Mesa's.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { root } from '../../scripts/steps.mjs'
import { launchChromium, WEBGPU } from '../support/chromium.mjs'
import { serveFiles } from '../support/file-server.mjs'
import { runInFirefox } from '../support/firefox.mjs'

/** What Firefox wants before it shows a page an adapter without a certificate. */
const PREFERENCES = { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true }

/** The products for a kind of numbers, and what the kernels must make of them. */
function questions(arithmetic) {
  const args = ['run', '--quiet', '--package', 'realm-wgpu', '--example', 'questions']
  const options = { cwd: root, maxBuffer: 2 ** 28 }
  const { status, stdout, stderr } = spawnSync('cargo', [...args, '--', arithmetic], options)
  assert.equal(status, 0, String(stderr))
  return stdout
}

/** A server with the questions and a page that asks them. */
async function serveQuestions(t, arithmetic) {
  const server = await serveFiles()
  t.after(() => server.close())
  const script = readFileSync(join(import.meta.dirname, 'support', 'ask.js'))
  const page = '<!doctype html><script type="module" src="/ask.js"></script>'
  server.files.set('/', { bytes: Buffer.from(page), type: 'text/html' })
  server.files.set('/ask.js', { bytes: script, type: 'text/javascript' })
  const bytes = questions(arithmetic)
  server.files.set('/questions.json', { bytes, type: 'application/json' })
  return server
}

function check({ n, faults, control }) {
  assert.ok(n > 50, `${n} kernels`)
  assert.match(control, /is known, at 0/)
  assert.deepEqual(faults, [])
}

for (const arithmetic of ['f32', 'int8']) {
  it(`kernels in ${arithmetic} are right in Chromium`, async (t) => {
    const server = await serveQuestions(t, arithmetic)
    const browser = await launchChromium({ args: WEBGPU })
    t.after(() => browser.close())
    const page = await browser.newPage()
    await page.goto(`${server.origin}/`)
    await page.waitForFunction(() => window.askAll)
    check(await page.evaluate(() => window.askAll('/questions.json')))
  })
}

it('kernels in f16 are right in Firefox', async (t) => {
  const server = await serveQuestions(t, 'f16')
  const options = { modules: ['/ask.js'], preferences: PREFERENCES }
  const result = await runInFirefox(server, () => window.askAll('/questions.json'), options)
  assert.ok(result.requiredFeatures.includes('shader-f16'), 'the adapter has f16')
  check(result)
})
