/**
 * `node scripts/wasi.mjs PROGRAM.wasm [arguments]`: runs a WASI program in Node, as cargo's
 * runner for tests and benches of the WebAssembly build.
 *
 * The program sees the environment, the repository and the conformance kit. What it exits with
 * is what this process exits with.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { WASI } from 'node:wasi'
import { root } from './steps.mjs'

// Node 20 has it behind a flag, later versions without.
setFlagsFromString('--experimental-wasm-relaxed-simd')

const [path, ...args] = process.argv.slice(2)
const kit = process.env.REALM_CONFORMANCE_KIT ?? join(root, '../shared/conformance')
const wasi = new WASI({
  version: 'preview1',
  args: [path, ...args],
  env: { ...process.env, REALM_CONFORMANCE_KIT: '/kit' },
  preopens: { '/kit': kit, [root]: root, '.': process.cwd() },
})
const module = await WebAssembly.compile(await readFile(path))
const instance = await WebAssembly.instantiate(module, wasi.getImportObject())
process.exitCode = wasi.start(instance)
