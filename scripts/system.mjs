/**
 * Installs what the tests and checks need beyond Node and Rust. A part that
 * cannot be installed ends the run.
 */

import { existsSync, readdirSync } from 'node:fs'
import { findChromium } from '../test-js/support/chromium-path.mjs'
import { findFirefox } from '../test-js/support/firefox-path.mjs'
import { CROSS_TARGETS } from './cross.mjs'
import { has, run } from './steps.mjs'

/** Where Vulkan's loader looks for drivers. */
const VULKAN_DRIVER_FOLDERS = [
  '/usr/share/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/etc/vulkan/icd.d',
]

/** A software driver for the tests of the GPU backend; other systems bring a GPU API along. */
export function installVulkanDriver() {
  if (process.platform !== 'linux' || VULKAN_DRIVER_FOLDERS.some(hasFiles)) return
  installPackages(['mesa-vulkan-drivers', 'libvulkan1'])
}

/** A browser for the tests of the browser package. */
export function installChromium() {
  if (process.platform !== 'linux' || findChromium() !== undefined) return
  installPackages(['chromium'])
}

/** The other browser for these tests. */
export function installFirefox() {
  if (process.platform !== 'linux' || findFirefox() !== undefined) return
  installPackages(['firefox-esr'])
}

/** rustfmt and clippy, which a minimal toolchain lacks. */
export function installRustComponents() {
  if (has('cargo', ['fmt', '--version']) && has('cargo', ['clippy', '--version'])) return
  run('rustup', ['component', 'add', 'rustfmt', 'clippy'])
}

/** Compiler and linker for a platform, if it is one that x64 Linux can build for. */
export function installCrossCompiler(platform) {
  const target = CROSS_TARGETS[platform]
  if (target === undefined || process.platform !== 'linux' || process.arch !== 'x64') return
  if (has('rustup')) run('rustup', ['target', 'add', target.triple])
  if (!has(target.linker)) installPackages(target.compilerPackages)
}

/** What runs a platform's programs on this machine. */
export function installEmulator(platform) {
  const { emulator, emulatorPackages } = CROSS_TARGETS[platform]
  if (!has(emulator[0])) installPackages(emulatorPackages)
}

/** What the tests of the WebAssembly build are compiled for, so that Node runs them. */
export function installWasiTarget() {
  run('rustup', ['target', 'add', 'wasm32-wasip1'])
}

/** What the engine for browsers is compiled with, the standard library included. */
export function installWebTools() {
  run('rustup', ['target', 'add', 'wasm32-unknown-unknown'])
  run('rustup', ['component', 'add', 'rust-src'])
}

/** The checker of dependencies' licences and advisories. */
export function installCargoDeny() {
  if (!has('cargo', ['deny', '--version']))
    run('cargo', ['install', '--locked', '--debug', 'cargo-deny'])
}

function installPackages(packages) {
  if (!has('apt-get')) {
    console.error(`please install ${packages.join(', ')} (or what your system calls them)`)
    process.exit(1)
  }
  const asRoot = process.getuid() === 0 ? [] : ['sudo', '-n']
  const apt = (...args) => {
    const [command, ...rest] = [...asRoot, 'apt-get', ...args]
    run(command, rest, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
  }
  apt('update', '--quiet')
  apt('install', '--quiet', '--yes', '--no-install-recommends', ...packages)
}

function hasFiles(folder) {
  return existsSync(folder) && readdirSync(folder).length > 0
}
