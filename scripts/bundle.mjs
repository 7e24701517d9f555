/**
 * `node scripts/bundle.mjs VERSION`: bundles the browser's modules into `dist/browser`. A program
 * of its own, since its tool may not be installed yet when the others are loaded.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from './steps.mjs'
import { BUILDS } from './web.mjs'

/** Modules that are others in browsers, and those that wasm-bindgen wrote. */
const inBrowsers = {
  name: 'in-browsers',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\/platform\.js$/ }, () => ({ path: join(root, 'ts/platform.browser.ts') }))
    onLoad({ filter: /\/realm\.js$/ }, ({ path }) => ({
      contents: asFactory(readFileSync(path, 'utf8')),
    }))
  },
}

/** The JavaScript of each build, a module of its own beside the WebAssembly. */
const engines = Object.keys(BUILDS).map((build) => [
  `realm-${build}`,
  join(root, 'target/web', build, 'realm.js'),
])

/**
 * wasm-bindgen's module holds one instance. A function around all of it makes as many as are
 * asked for.
 */
function asFactory(module) {
  const declaration = /^export (?=(?:async )?(?:function|class) (\w+))/gm
  const names = [...module.matchAll(declaration)].map(([, name]) => name)
  const body = module.replace(declaration, '').replace(/^export \{[^}]*\};?$/gm, '')
  return `export function createEngine() {
${body}
return { default: __wbg_init, ${names.join(', ')} }
}`
}

await build({
  entryPoints: {
    index: join(root, 'ts/browser/index.ts'),
    worker: join(root, 'ts/browser/worker.ts'),
    ...Object.fromEntries(engines),
  },
  outdir: join(root, 'dist/browser'),
  outExtension: { '.js': '.mjs' },
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  sourcemap: false,
  legalComments: 'none',
  define: { REALM_VERSION: JSON.stringify(process.argv[2]) },
  plugins: [inBrowsers],
  logLevel: 'warning',
})
