/**
 * `npm run fuzz -- TARGET [--seconds N]`: fuzzes one parser, 600 seconds unless told.
 *
 * The targets are in crates/fuzz; without a name this lists them. What is found stays in
 * fuzz/artifacts/TARGET, what was learned in fuzz/corpus/TARGET; a finding that was mended becomes
 * a seed in fuzz/seeds/TARGET, which the tests of crates/fuzz read.
 */

import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { has, root, run } from './steps.mjs'

const targets = readdirSync(join(root, 'fuzz/seeds')).sort()
const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '600' } },
  allowPositionals: true,
})
const [target] = positionals
if (!targets.includes(target)) {
  console.error(`usage: npm run fuzz -- TARGET [--seconds N]; targets: ${targets.join(', ')}`)
  process.exit(2)
}
if (!has('cargo', ['fuzz', '--version'])) run('cargo', ['install', 'cargo-fuzz', '--locked'])

mkdirSync(join(root, 'fuzz/corpus', target), { recursive: true })
const corpora = [`fuzz/corpus/${target}`, `fuzz/seeds/${target}`]
// A refusal takes less than 64 MB; the sanitizer needs some memory of its own.
const limits = ['-malloc_limit_mb=64', '-rss_limit_mb=256', '-timeout=20']
const env = {
  ...process.env,
  // Sanitizers are unstable options, which the stable compiler has as well.
  RUSTC_BOOTSTRAP: '1',
  ASAN_OPTIONS: 'quarantine_size_mb=8',
}
run(
  'cargo',
  ['fuzz', 'run', target, ...corpora, '--', `-max_total_time=${values.seconds}`, ...limits],
  { env },
)
