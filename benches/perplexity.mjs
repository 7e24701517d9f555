/**
 * `npm run bench:perplexity -- [--record] [FILE...]`: how well models predict a fixed text, with
 * Realm's kernels and in exact arithmetic. Without files the bundled ones beside the conformance
 * kit, or the one that the repository brings along.
 */

import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cargoBench } from './cargo.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const { values, positionals } = parseArgs({
  options: { record: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const files = positionals.length > 0 ? positionals.map((file) => resolve(file)) : bundled()
const models = files.map((file) => basename(file, '.gguf'))
cargoBench('perplexity', 'realm-cpu', files, values.record ? { models } : null)

function bundled() {
  const kit = process.env.REALM_CONFORMANCE_KIT ?? join(root, '..', 'shared', 'conformance')
  const folders = [join(kit, '..', 'models'), join(root, 'examples', 'models')]
  const folder = folders.find((folder) => existsSync(folder))
  const names = readdirSync(folder).filter((name) => name.endsWith('.gguf'))
  return names.sort().map((name) => join(folder, name))
}
