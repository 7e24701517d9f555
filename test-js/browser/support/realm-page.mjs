/**
 * Pages with the browser package, for tests that run functions in them.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../../scripts/steps.mjs'
import { BUILDS } from '../../../scripts/web.mjs'
import { serveFiles } from '../../support/file-server.mjs'

const BUILT = join(root, 'dist/browser')
const TYPES = { mjs: 'text/javascript', wasm: 'application/wasm' }

/** What lets a page have shared memory. */
export const ISOLATED = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
}

/**
 * A server with the package under `/realm/`, pages at `/` and models at `/models/`.
 *
 * @param models paths of files by the names they are served as
 */
export async function serveRealm(models, { headers = {}, packageOrigin = '' } = {}) {
  const server = await serveFiles()
  const script = `import * as realm from '${packageOrigin}/realm/index.mjs'; window.realm = realm`
  const put = (path, bytes, type) =>
    server.files.set(path, { bytes: Buffer.from(bytes), type, headers })
  put('/page.js', script, 'text/javascript')
  put(
    '/',
    `<!doctype html><meta charset="utf-8"><title>realm</title><script type="module" src="/page.js"></script>`,
    'text/html',
  )
  for (const name of ['index.mjs', 'worker.mjs', ...engineFiles()])
    put(`/realm/${name}`, readFileSync(join(BUILT, name)), TYPES[name.split('.').at(-1)])
  for (const [name, path] of Object.entries(models)) put(`/models/${name}`, readFileSync(path))
  return server
}

function engineFiles() {
  return Object.keys(BUILDS).flatMap((build) => [`realm-${build}.mjs`, `realm-${build}.wasm`])
}

/**
 * A page of `server` in which the package has been imported as `realm`, and `withModel` loads a
 * model, hands it to a function, and disposes of everything.
 */
export async function openRealmPage(browser, server) {
  const context = await browser.newContext()
  const page = await context.newPage()
  page.on('pageerror', (error) => console.error('page:', error))
  await page.goto(`${server.origin}/`)
  await page.waitForFunction(() => window.realm !== undefined)
  await page.evaluate(() => {
    window.withModel = async (source, use, loadOptions = {}, realmOptions = {}) => {
      const realm = await window.realm.Realm.create(realmOptions)
      try {
        return await use(await realm.load(source, loadOptions))
      } finally {
        await realm.dispose()
      }
    }
    /** The code and message of what `call` throws or rejects with. */
    window.failure = async (call) => {
      try {
        await call()
      } catch (error) {
        return { name: error.name, code: error.code, message: error.message }
      }
      return null
    }
  })
  return page
}
