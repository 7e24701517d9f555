/**
 * Every kernel in real browsers: products of matrices by their known answers, all others by the
 * cases of the native tests, beside the oracle. In f32 and int8 on Chromium's device in software, in
 * f16 in Firefox, which takes Mesa's.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, it } from 'node:test'
import { root, run, step, targetDirectory } from '../../scripts/steps.mjs'
import { buildBindgen } from '../../scripts/web.mjs'
import { launchChromium, WEBGPU } from '../support/chromium.mjs'
import { serveFiles } from '../support/file-server.mjs'
import { runInFirefox } from '../support/firefox.mjs'

const TARGET = 'wasm32-unknown-unknown'

/** The module with the cases and its JavaScript, which no package has. */
const BUILT = 'target/kernels'

/** What Firefox wants before it shows a page a device without a certificate. */
const PREFERENCES = { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true }

before(() => {
  buildBindgen()
  step('kernels', {
    inputs: ['crates', 'Cargo.toml', 'Cargo.lock', 'tools/bindgen'],
    output: `${BUILT}/realm_bg.wasm`,
    make: () => {
      const example = ['-p', 'realm-wgpu', '--example', 'in_page']
      run('cargo', ['build', '--locked', '--release', ...example, '--target', TARGET])
      const compiled = join(targetDirectory(), TARGET, 'release', 'examples', 'in_page.wasm')
      run(join(root, 'target/tools/debug/realm-bindgen'), [compiled, join(root, BUILT)])
    },
  })
})

/** A server with the module and a page that can run it. */
async function serveKernels(t) {
  const server = await serveFiles()
  t.after(() => server.close())
  const put = (path, bytes, type) => server.files.set(path, { bytes, type })
  const page = '<!doctype html><script type="module" src="/check-kernels.js"></script>'
  put('/', Buffer.from(page), 'text/html')
  const script = join(import.meta.dirname, 'support', 'check-kernels.js')
  put('/check-kernels.js', readFileSync(script), 'text/javascript')
  put('/realm.js', readFileSync(join(root, BUILT, 'realm.js')), 'text/javascript')
  put('/realm_bg.wasm', readFileSync(join(root, BUILT, 'realm_bg.wasm')), 'application/wasm')
  return server
}

function check({ nProducts, nCases, faults, control }, fewestCases) {
  assert.deepEqual(faults, [])
  assert.ok(nProducts > 50 && nCases >= fewestCases, `${nProducts} products, ${nCases} cases`)
  assert.match(control, /max .* allowed/)
}

for (const [arithmetic, fewestCases] of [
  ['f32', 150],
  ['int8', 30],
]) {
  it(`kernels in ${arithmetic} are right in Chromium`, async (t) => {
    const server = await serveKernels(t)
    const browser = await launchChromium({ args: WEBGPU })
    t.after(() => browser.close())
    const page = await browser.newPage()
    await page.goto(`${server.origin}/`)
    await page.waitForFunction(() => window.checkKernels)
    const found = await page.evaluate((kind) => window.checkKernels(kind), arithmetic)
    check(found, fewestCases)
  })
}

it('kernels in f16 are right in Firefox', async (t) => {
  const server = await serveKernels(t)
  const modules = ['/check-kernels.js']
  const options = { modules, preferences: PREFERENCES, patienceMs: 600_000 }
  check(await runInFirefox(server, () => window.checkKernels('f16'), options), 150)
})
