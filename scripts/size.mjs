/**
 * `npm run size`: what a browser downloads, part by part; fails when it grows past the limit.
 */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { root } from './steps.mjs'
import { BUILDS } from './web.mjs'

/** Bytes after gzip of the page's module, the worker's, and one build of the engine. */
const LIMIT_BYTES = 606_000
/** What they are to come down to. */
const AIM_BYTES = 400_000

const sizes = (name) => {
  const bytes = readFileSync(join(root, 'dist/browser', name))
  return { name, bytes: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length }
}
const kilobytes = (bytes) => (bytes / 1000).toFixed(1).padStart(8)
const print = ({ name, bytes, gzip }) =>
  console.log(`${name.padEnd(28)} ${kilobytes(bytes)} kB ${kilobytes(gzip)} kB gzip`)

const scripts = ['index.mjs', 'worker.mjs'].map(sizes)
for (const part of scripts) print(part)
for (const build of Object.keys(BUILDS)) {
  const files = [`realm-${build}.mjs`, `realm-${build}.wasm`]
  if (!files.every((file) => existsSync(join(root, 'dist/browser', file)))) continue
  const engine = files.map(sizes)
  for (const part of engine) print(part)
  const gzip = [...scripts, ...engine].reduce((sum, part) => sum + part.gzip, 0)
  const verdict = gzip <= AIM_BYTES ? 'within' : 'over'
  const aim = `${verdict} the aim of ${AIM_BYTES / 1000} kB`
  console.log(`  all for ${build}: ${kilobytes(gzip)} kB gzip, ${aim}`)
  if (gzip <= LIMIT_BYTES) continue
  console.error(`  that is more than the limit of ${LIMIT_BYTES / 1000} kB`)
  process.exitCode = 1
}
