/**
 * `node scripts/bundle.mjs VERSION`: bundles the browser's modules into `dist/browser`. A program
 * of its own, since its tool may not be installed yet when the others are loaded.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from './steps.mjs'
import { BUILDS } from './web.mjs'

/** Modules that are others in browsers. */
const inBrowsers = {
  name: 'in-browsers',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\/platform\.js$/ }, () => ({ path: join(root, 'ts/platform.browser.ts') }))
    onResolve({ filter: /^realm-engine\// }, ({ path }) => ({
      path: engineScript(path.slice('realm-engine/'.length)),
      namespace: 'realm-engine',
    }))
    onLoad({ filter: /./, namespace: 'realm-engine' }, ({ path }) => ({
      contents: asFactory(readFileSync(path, 'utf8')),
    }))
  },
}

/** The JavaScript of a build: that of the first when they are the same, so that it is there once. */
function engineScript(name) {
  const script = (build) => join(root, 'target/web', build, 'realm.js')
  const first = Object.keys(BUILDS)[0]
  const isSame = readFileSync(script(first), 'utf8') === readFileSync(script(name), 'utf8')
  return script(isSame ? first : name)
}

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
