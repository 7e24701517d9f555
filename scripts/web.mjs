/**
 * The steps of the browser package: the engine as WebAssembly in several builds, and the facade
 * with its worker, in `dist/browser`.
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root, run, step, targetDirectory } from './steps.mjs'

const TARGET = 'wasm32-unknown-unknown'
const SIMD = ['+simd128', '+bulk-memory', '+nontrapping-fptoint', '+sign-ext', '+mutable-globals']

/** The standard library is built too: for size, and in one build with atomics. */
const STD = ['-Zbuild-std=std,panic_abort', '-Zbuild-std-features=optimize_for_size']

/**
 * A panic ends the worker whatever it says, so it need not say anything, nor where. What is
 * printed of a derived `Debug` is the name alone.
 */
const SMALL = [
  '-Zunstable-options',
  '-Cpanic=immediate-abort',
  '-Zlocation-detail=none',
  '-Zfmt-debug=shallow',
]

/**
 * The builds: for the CPU, each for browsers that can do more, and for WebGPU. WebGPU's objects
 * stay on their thread, so it has no use for the features of the threads.
 */
export const BUILDS = {
  simd: { backend: 'cpu', features: SIMD },
  relaxed: { backend: 'cpu', features: [...SIMD, '+relaxed-simd'] },
  webgpu: { backend: 'webgpu', features: SIMD },
  threads: {
    backend: 'cpu',
    features: [...SIMD, '+relaxed-simd', '+atomics'],
    links: [
      '--shared-memory',
      '--import-memory',
      '--max-memory=4294967296',
      ...['__wasm_init_tls', '__tls_size', '__tls_align', '__tls_base', '__heap_base'].map(
        (name) => `--export=${name}`,
      ),
    ],
  },
}

/** Inputs of the engine. */
const CRATES = ['crates', 'Cargo.toml', 'Cargo.lock', 'tools/bindgen']

/** Everything in `dist/browser`. */
export function buildWeb() {
  buildBindgen()
  for (const name of Object.keys(BUILDS)) buildEngine(name)
  bundleFacade()
}

/** What writes the JavaScript side of a build. */
export function buildBindgen() {
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
      const { backend, features, links = [] } = BUILDS[name]
      const linkArguments = links.map((argument) => `-Clink-arg=${argument}`)
      const rustflags = [`-Ctarget-feature=${features.join(',')}`, ...linkArguments, ...SMALL]
      const env = {
        ...process.env,
        // The standard library's own sources are only built with features of the nightly.
        RUSTC_BOOTSTRAP: '1',
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: rustflags.join(' '),
      }
      const web = ['-p', 'realm-web', '--no-default-features', '--features', backend]
      const cargo = ['build', '--locked', ...web, '--target', TARGET, ...STD]
      run('cargo', [...cargo, '--profile', 'web'], { env })
      const compiled = join(targetDirectory(), TARGET, 'web', 'realm_web.wasm')
      const folder = join(root, 'target', 'web', name)
      rmSync(folder, { recursive: true, force: true })
      run(join(root, 'target/tools/debug/realm-bindgen'), [compiled, folder])
      mkdirSync(join(root, dirname(output)), { recursive: true })
      // As the compiler made it: wasm-opt makes it smaller, but not after gzip.
      copyFileSync(join(folder, 'realm_bg.wasm'), join(root, output))
    },
  })
}

/** The page's module, the worker's, and each build's own, in files without imports. */
export function bundleFacade() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  step('browser', {
    key: version,
    inputs: ['ts', 'package.json', 'package-lock.json', 'scripts/bundle.mjs', 'target/web'],
    output: 'dist/browser/index.mjs',
    make: () => run(process.execPath, [join(root, 'scripts/bundle.mjs'), version]),
  })
}
