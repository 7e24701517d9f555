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
/** An emulator is slow: random cases of each test. */
const CASES = '4'

/** Kernels of every level against their definition, then what chooses among them. */
export function testOnArm() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return
  installCrossCompiler(PLATFORM)
  installEmulator(PLATFORM)
  const target = CROSS_TARGETS[PLATFORM]
  const env = { ...process.env, ...cargoEnvironment(target), PROPTEST_CASES: CASES }
  const test = (args, more = {}) =>
    run('cargo', ['test', '--locked', '--target', target.triple, ...args], {
      env: { ...env, ...more },
    })
  const files = ['activations', 'conformance', 'kernels'].flatMap((name) => ['--test', name])
  test(['-p', 'realm-quant', ...files])
  for (const level of LEVELS) {
    const capped = { REALM_CPU_FEATURES: level }
    test(['-p', 'realm-quant', '--test', 'levels'], capped)
    test(['-p', 'realm-cpu', '--lib', '--test', 'attention'], capped)
  }
}
