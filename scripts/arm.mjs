/**
 * The tests of what has code of its own for ARM, on an emulated processor. A processor that is
 * itself ARM runs them with all the others.
 */

import { CROSS_TARGETS, cargoEnvironment } from './cross.mjs'
import { run } from './steps.mjs'
import { installCrossCompiler, installEmulator } from './system.mjs'

const PLATFORM = 'linux-arm64-gnu'
/** What `REALM_CPU_FEATURES` may be on this processor. */
const LEVELS = ['scalar', 'neon', 'dotprod', 'i8mm']
/** Random cases of each test: an emulator is slow. */
const CASES = '4'
/** What is built once for few runs is optimised less than for the tests of this machine. */
const PROFILE = ['--config', 'profile.dev.package.realm-quant.opt-level=1']

/** Kernels of every level against their definition, then steps and whole models at every level. */
export function testOnArm() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return
  installCrossCompiler(PLATFORM)
  installEmulator(PLATFORM)
  const target = CROSS_TARGETS[PLATFORM]
  const env = { ...process.env, ...cargoEnvironment(target), PROPTEST_CASES: CASES }
  const test = (args, more = {}) =>
    run('cargo', ['test', ...PROFILE, '--locked', '--target', target.triple, ...args], {
      env: { ...env, ...more },
    })
  const files = ['activations', 'conformance', 'kernels'].flatMap((name) => ['--test', name])
  test(['-p', 'realm-quant', '--lib', ...files])
  // Without the variable this one starts processes, which an emulator does not.
  for (const level of LEVELS) {
    test(['-p', 'realm-quant', '--test', 'levels'], { REALM_CPU_FEATURES: level })
  }
  test(['-p', 'realm-cpu', '--lib'])
  // Those that try every type of weights take an emulator minutes.
  const skipped = ['experts', 'every_quantised_type'].flatMap((name) => ['--skip', name])
  test(['-p', 'realm-cpu', '--test', 'steps', '--test', 'levels', '--', ...skipped])
}
