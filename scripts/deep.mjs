/**
 * `npm run deep [-- PART...]`: tools that look for what tests cannot see; all of them take about
 * an hour. docs/debugging.md says what each looks for.
 *
 * A part whose tools are not to be had is named at the end and fails the run, unless
 * `--allow-missing` says that it may.
 */

import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root, succeeds } from './steps.mjs'
import { has32BitTools, hasToolchain } from './system.mjs'

/** The compiler of one day, so that a finding is of the code and not of a new compiler. */
const NIGHTLY = 'nightly-2026-07-01'

/** All but those that read the conformance kit, which take Miri hours. */
const TESTS_FOR_MIRI = [
  'check',
  'hostile',
  'remote',
  'round_trip',
  'split',
  'activations',
  'kernels',
  'levels',
]

/** By name: `needs` says whether its tools are there now, `runs` are what cargo is told. */
const PARTS = {
  miri: {
    needs: () => hasToolchain(NIGHTLY),
    missing: `${NIGHTLY} with Miri`,
    runs: [
      miri(
        [],
        [
          ...['ir', 'gguf', 'quant'].flatMap((crate) => ['-p', `realm-${crate}`]),
          ...['--lib', ...TESTS_FOR_MIRI.flatMap((name) => ['--test', name])],
        ],
      ),
      // Threads meet in another order with every seed.
      miri(['-Zmiri-many-seeds=0..8'], ['-p', 'realm-cpu', '--lib', '--', 'pool::', 'turns::']),
      // Threads that a host lends never end.
      miri(['-Zmiri-ignore-leaks'], ['-p', 'realm-cpu', '--lib', '--', 'threads::', 'zeroed::']),
    ],
  },
  loom: {
    needs: () => true,
    runs: [
      {
        args: ['cargo', 'test', '--locked', '-p', 'realm-cpu', '--lib', '--', 'interleavings'],
        env: { RUSTFLAGS: '--cfg loom' },
      },
    ],
  },
  tsan: {
    needs: () => process.platform === 'linux' && process.arch === 'x64' && hasToolchain(NIGHTLY),
    missing: `${NIGHTLY} with the sources of its standard library, on x64 Linux`,
    runs: [
      {
        args: [
          ...nightly('test', '--locked', '--no-fail-fast', '-Zbuild-std'),
          ...['--target', 'x86_64-unknown-linux-gnu', '-p', 'realm-cpu', '--tests', '--'],
          // It would count the sanitizer's own memory.
          ...['--skip', 'what_is_planned_is_what_becomes_resident'],
          // Ten minutes, of steps that the other tests run too.
          ...['--skip', 'mutations::'],
        ],
        env: { RUSTFLAGS: '-Zsanitizer=thread', TSAN_OPTIONS: 'halt_on_error=1' },
      },
    ],
  },
  '32bit': {
    needs: has32BitTools,
    missing: 'a linker for 32-bit programs (gcc-multilib), on x64 Linux',
    runs: [
      {
        args: [
          ...['cargo', 'test', '--locked', '--no-fail-fast', '--target', 'i686-unknown-linux-gnu'],
          ...['gguf', 'ir', 'model', 'engine'].flatMap((crate) => ['-p', `realm-${crate}`]),
        ],
      },
    ],
  },
}

/** cargo of the nightly toolchain. */
function nightly(...args) {
  return ['rustup', 'run', NIGHTLY, 'cargo', ...args]
}

/** Tests under Miri, which may read files: the kit, and the folder they are in. */
function miri(flags, args) {
  return {
    args: [...nightly('miri', 'test', '--locked', '--no-fail-fast'), ...args],
    env: {
      MIRIFLAGS: ['-Zmiri-disable-isolation', ...flags].join(' '),
      // Some hundred times slower than the processor.
      PROPTEST_CASES: '2',
    },
  }
}

/** Runs all of a part, in a folder for what is built that no other build shares. */
function succeedsAll(name, { runs }) {
  const own = { CARGO_TARGET_DIR: join(root, 'target/deep', name) }
  const results = runs.map(({ args: [command, ...args], env }) =>
    succeeds(command, args, { env: { ...process.env, ...own, ...env } }),
  )
  return results.every(Boolean)
}

const { values, positionals } = parseArgs({
  options: { 'allow-missing': { type: 'boolean', default: false } },
  allowPositionals: true,
})
const unknown = positionals.filter((name) => !Object.hasOwn(PARTS, name))
if (unknown.length > 0) {
  const names = Object.keys(PARTS).join(', ')
  console.error(`no part is called ${unknown.join(', ')}; there are: ${names}`)
  process.exit(2)
}

const lines = []
for (const name of positionals.length > 0 ? positionals : Object.keys(PARTS)) {
  const part = PARTS[name]
  const began = performance.now()
  if (!part.needs()) {
    lines.push(`${name}: NOT RUN, for want of ${part.missing}`)
    if (!values['allow-missing']) process.exitCode = 1
    continue
  }
  const ok = succeedsAll(name, part)
  if (!ok) process.exitCode = 1
  const minutes = ((performance.now() - began) / 60_000).toFixed(1)
  lines.push(`${name}: ${ok ? 'nothing found' : 'FAILED'}, ${minutes} minutes`)
}
for (const line of lines) console.error(line)
