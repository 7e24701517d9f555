/**
 * Pages whose worker opens sources, for the tests of ts/browser/sources. The modules are served
 * as the compiler writes them, so that a failure points to a line of the source.
 */

import { readFileSync, rmSync } from 'node:fs'
import { extname, join } from 'node:path'
import { root, runTool } from '../../../scripts/steps.mjs'
import { serveFiles } from '../../support/file-server.mjs'

const TYPES = { '.js': 'text/javascript', '.html': 'text/html' }
const MODULES = '/modules/'
const COMPILED = join(root, 'target', 'browser-modules')

/** Compiles the modules to where the pages find them. */
function compile() {
  rmSync(COMPILED, { recursive: true, force: true })
  const options = ['--noEmit', 'false', '--declaration', 'false', '--outDir', COMPILED]
  runTool('typescript', ['--project', 'tsconfig.browser.json', ...options])
}

/** A server with the page `/`, beside which tests put their files. */
export async function serveSourcesPage() {
  compile()
  // Modules are read as they are asked for.
  const server = await serveFiles(moduleAt)
  const page = '<!doctype html><meta charset="utf-8"><title>sources</title>'
  put('/', '.html', `${page}<script type="module" src="/page.js"></script>`)
  for (const name of ['page.js', 'worker.js'])
    put(`/${name}`, '.js', readFileSync(join(import.meta.dirname, name), 'utf8'))
  return server

  function put(path, extension, text) {
    server.files.set(path, { bytes: Buffer.from(text), type: TYPES[extension] })
  }
}

function moduleAt(path) {
  if (!path.startsWith(MODULES) || extname(path) !== '.js') return undefined
  return { bytes: readFileSync(compiled(path.slice(MODULES.length))), type: TYPES['.js'] }
}

/** Where a compiled module lies, once the page is served. */
export function compiled(path) {
  return join(COMPILED, path)
}

/**
 * A page with a worker, in which `call(name, ...arguments)` runs a function of worker.js. What it
 * throws comes back as { error: { name, code, message } }.
 */
export async function openSourcesPage(context, server) {
  const page = await context.newPage()
  page.on('pageerror', (error) => console.error(error))
  await page.goto(`${server.origin}/`)
  await page.waitForFunction(() => window.isReady)
  return {
    page,
    call: (name, ...args) => page.evaluate(([name, args]) => window.call(name, args), [name, args]),
    reload: async () => {
      await page.reload()
      await page.waitForFunction(() => window.isReady)
    },
    close: () => page.close(),
  }
}
