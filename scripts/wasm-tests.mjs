/**
 * The tests of what WebAssembly has kernels of its own for, run in Node: every kernel against
 * its definition, and whole models against reference logits.
 */

import { join } from 'node:path'
import { root, run } from './steps.mjs'

const TARGET = 'wasm32-wasip1'

/** What the builds for browsers are compiled for; the one with threads is like the second. */
const SIMD = '+simd128'
const RELAXED = '+simd128,+relaxed-simd'

/** Runs the kernels' tests for each set of instructions, whole models with all of them. */
export function testOnWasm() {
  for (const features of [SIMD, RELAXED]) {
    test(features, '-p', 'realm-quant', '--test', 'kernels', '--test', 'levels')
  }
  test(RELAXED, '-p', 'realm-cpu', '--lib', '--test', 'conformance')
}

function test(features, ...args) {
  const env = {
    ...process.env,
    CARGO_TARGET_WASM32_WASIP1_RUNNER: `node --no-warnings ${join(root, 'scripts/wasi.mjs')}`,
    CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS: `-C target-feature=${features}`,
  }
  run('cargo', ['test', '--locked', '--target', TARGET, ...args], { env })
}
