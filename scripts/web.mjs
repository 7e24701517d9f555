/**
 * The steps of the browser package: the engine as WebAssembly in several builds, and the facade
 * with its worker, in `dist/browser`.
 */

import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { has, root, run, runTool, step, targetDirectory } from './steps.mjs'

const TARGET = 'wasm32-unknown-unknown'
const SIMD = ['+simd128', '+bulk-memory', '+nontrapping-fptoint', '+sign-ext', '+mutable-globals']

/** The standard library is built too: for size, and in one build with atomics. */
const STD = ['-Zbuild-std=std,panic_abort', '-Zbuild-std-features=optimize_for_size']

/** A panic ends the worker whatever it says, so it need not say anything. */
const SMALL = ['-Zunstable-options', '-Cpanic=immediate-abort']

/** The builds, each for browsers that can do more. */
export const BUILDS = {
  simd: { features: SIMD },
}

/** Inputs of the engine. */
const CRATES = ['crates', 'Cargo.toml', 'Cargo.lock', 'tools/bindgen']

/** Everything in `dist/browser`. */
export function buildWeb() {
  installTarget()
  buildBindgen()
  for (const name of Object.keys(BUILDS)) buildEngine(name)
  bundleFacade()
}

function installTarget() {
  if (has('rustc', ['--print', 'target-libdir', '--target', TARGET]) && hasStd()) return
  run('rustup', ['target', 'add', TARGET])
}

function hasStd() {
  return has('sh', ['-c', `test -d "$(rustc --print target-libdir --target ${TARGET})"`])
}

/** What writes the JavaScript side of a build. */
function buildBindgen() {
  step('bindgen', {
    inputs: ['tools/bindgen'],
    output: 'target/tools/debug/realm-bindgen',
    make: () => {
      const manifest = ['--manifest-path', 'tools/bindgen/Cargo.toml']
      run('cargo', ['build', '--locked', ...manifest, '--target-dir', 'target/tools'])
    },
  })
}

/** One build of the engine: WebAssembly in `dist/browser`, its JavaScript in `target/web`. */
function buildEngine(name) {
  const output = `dist/browser/realm-${name}.wasm`
  step(`engine-${name}`, {
    inputs: CRATES,
    output,
    make: () => {
      const { features } = BUILDS[name]
      const rustflags = [`-Ctarget-feature=${features.join(',')}`, ...SMALL]
      const env = {
        ...process.env,
        // The standard library's own sources are only built with features of the nightly.
        RUSTC_BOOTSTRAP: '1',
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: rustflags.join(' '),
      }
      const cargo = ['build', '--locked', '-p', 'realm-web', '--target', TARGET, ...STD]
      run('cargo', [...cargo, '--profile', 'web'], { env })
      const compiled = join(targetDirectory(), TARGET, 'web', 'realm_web.wasm')
      const folder = join(root, 'target', 'web', name)
      rmSync(folder, { recursive: true, force: true })
      run(join(root, 'target/tools/debug/realm-bindgen'), [compiled, folder])
      mkdirSync(join(root, dirname(output)), { recursive: true })
      const optimised = ['-Oz', '--all-features', '-o', join(root, output)]
      runTool('binaryen', [join(folder, 'realm_bg.wasm'), ...optimised], 'wasm-opt')
    },
  })
}

/** The page's module and the worker's, each in one file without imports. */
export function bundleFacade() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  step('browser', {
    key: version,
    inputs: ['ts', 'package.json', 'package-lock.json', 'scripts/bundle.mjs', 'target/web'],
    output: 'dist/browser/index.mjs',
    make: () => run(process.execPath, [join(root, 'scripts/bundle.mjs'), version]),
  })
}
