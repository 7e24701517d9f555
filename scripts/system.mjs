/**
 * Installs what the tests and checks need beyond Node and Rust. A part that
 * cannot be installed ends the run; those of `npm run deep` say whether they are there.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { findChromium } from '../test-js/support/chromium-path.mjs'
import { findFirefox } from '../test-js/support/firefox-path.mjs'
import { CROSS_TARGETS } from './cross.mjs'
import { has, run, succeeds } from './steps.mjs'

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

/** What opens a pseudo-terminal for the tests of the command. */
export function installPseudoTerminal() {
  if (process.platform !== 'linux' || has('script')) return
  installPackages(['bsdutils'])
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

/** A toolchain of a given day, with what `-Zbuild-std` and Miri need. */
export function hasToolchain(name) {
  const components = ['--profile', 'minimal', '--component', 'miri,rust-src']
  return succeeds('rustup', ['toolchain', 'install', name, ...components])
}

/** What builds and links programs for 32-bit x86 Linux on the 64-bit one. */
export function has32BitTools() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false
  const links = () => {
    const input = 'int main(void) { return 0; }'
    return spawnSync('cc', ['-m32', '-xc', '-', '-o', '/dev/null'], { input }).status === 0
  }
  if (!links() && !(packagesInstall(['gcc', 'gcc-multilib']) && links())) return false
  return succeeds('rustup', ['target', 'add', 'i686-unknown-linux-gnu'])
}

function installPackages(packages) {
  if (!packagesInstall(packages)) process.exit(1)
}

/** Installs packages of the system, and says whether that went well. */
function packagesInstall(packages) {
  if (!has('apt-get')) {
    console.error(`please install ${packages.join(', ')} (or what your system calls them)`)
    return false
  }
  const asRoot = process.getuid() === 0 ? [] : ['sudo', '-n']
  const apt = (...args) => {
    const [command, ...rest] = [...asRoot, 'apt-get', ...args]
    return succeeds(command, rest, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
  }
  return (
    apt('update', '--quiet') &&
    apt('install', '--quiet', '--yes', '--no-install-recommends', ...packages)
  )
}

function hasFiles(folder) {
  return existsSync(folder) && readdirSync(folder).length > 0
}
