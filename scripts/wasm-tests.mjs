/**
 * The tests of what WebAssembly has kernels of its own for, run in Node: every kernel against
 * its definition, and whole models against reference logits.
 */

import { join } from 'node:path'
import { root, run } from './steps.mjs'

const TARGET = 'wasm32-wasip1'

/** What the builds for browsers are compiled for; the others add threads to the second. */
const FEATURES = ['+simd128', '+simd128,+relaxed-simd']

/** Runs the tests once for each set of instructions. */
export function testOnWasm() {
  for (const features of FEATURES) {
    const env = {
      ...process.env,
      CARGO_TARGET_WASM32_WASIP1_RUNNER: `node --no-warnings ${join(root, 'scripts/wasi.mjs')}`,
      CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS: `-C target-feature=${features}`,
    }
    const test = (...args) =>
      run('cargo', ['test', '--locked', '--target', TARGET, ...args], { env })
    test('-p', 'realm-quant', '--tests')
    test('-p', 'realm-cpu', '--lib', '--test', 'conformance')
  }
}
