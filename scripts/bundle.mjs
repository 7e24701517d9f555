/**
 * `node scripts/bundle.mjs VERSION`: bundles the browser's modules into `dist/browser`. A program
 * of its own, since its tool may not be installed yet when the others are loaded.
 */

import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from './steps.mjs'

/** Modules that are others in browsers. */
const inBrowsers = {
  name: 'in-browsers',
  setup({ onResolve }) {
    onResolve({ filter: /\/platform\.js$/ }, () => ({ path: join(root, 'ts/platform.browser.ts') }))
    onResolve({ filter: /^realm-engine\// }, ({ path }) => ({
      path: join(root, 'target/web', path.slice('realm-engine/'.length), 'realm.js'),
    }))
  },
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
