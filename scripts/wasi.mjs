/**
 * `node scripts/wasi.mjs PROGRAM.wasm [arguments]`: runs a WASI program in Node, as cargo's
 * runner for the tests of the WebAssembly kernels.
 *
 * The program sees the files of this machine and the environment. What it exits with is what
 * this process exits with.
 */

import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { WASI } from 'node:wasi'

// Node 20 has it behind a flag, later versions without.
setFlagsFromString('--experimental-wasm-relaxed-simd')

const [path, ...args] = process.argv.slice(2)
const env = { ...process.env, PWD: process.cwd() }
const wasi = new WASI({
  version: 'preview1',
  args: [path, ...args],
  env,
  preopens: { '/': '/', '.': process.cwd() },
})
const module = await WebAssembly.compile(await readFile(path))
const instance = await WebAssembly.instantiate(module, wasi.getImportObject())
process.exitCode = wasi.start(instance)
