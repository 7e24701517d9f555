/**
 * The steps that the commands are made of. Each does nothing when its outputs
 * are newer than its inputs, and writes only to standard error.
 */

import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CROSS_TARGETS, cargoEnvironment } from './cross.mjs'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** File name of the addon that cargo makes, by operating system. */
const CARGO_LIBRARY = {
  linux: 'librealm_node.so',
  darwin: 'librealm_node.dylib',
  win32: 'realm_node.dll',
}

/** Runs a program in the repository's root; ends this process when it fails. */
export function run(command, args, options = {}) {
  if (!succeeds(command, args, options)) process.exit(1)
}

/** Runs a program in the repository's root, and says whether it went well. */
export function succeeds(command, args, options = {}) {
  console.error(`> ${command} ${args.join(' ')}`)
  const { status, signal, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    // npm is a script on Windows, where only a shell finds it.
    shell: process.platform === 'win32' && command === 'npm',
    ...options,
  })
  if (status === 0) return true
  console.error(`${command} failed: ${error?.message ?? signal ?? `exit status ${status}`}`)
  return false
}

/** Whether a program answers to `--version`. */
export function has(command, args = ['--version']) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

/** Runs a program of a development dependency. */
export function runTool(name, args) {
  const require = createRequire(join(root, 'package.json'))
  const manifest = require.resolve(`${name}/package.json`)
  const { bin } = require(manifest)
  const path = typeof bin === 'string' ? bin : Object.values(bin)[0]
  run(process.execPath, [join(dirname(manifest), path), ...args])
}

/**
 * Everything that `npm start` and the tests need: dependencies, facade, addon; the addon for this
 * machine's platform or the one that is named, unless it is not wanted.
 */
export async function build({ profile = 'release', platform, addon = true } = {}) {
  installDependencies()
  compileFacade()
  if (addon) await buildAddon(profile, platform)
}

/** `npm ci`, unless node_modules is as new as the lock file. */
export function installDependencies() {
  step('dependencies', {
    inputs: ['package.json', 'package-lock.json'],
    output: 'node_modules/typescript',
    make: () => run('npm', ['ci', '--loglevel=error', '--no-audit', '--no-fund']),
  })
}

/** TypeScript to `dist/`. */
export function compileFacade() {
  step('facade', {
    inputs: ['ts', 'tsconfig.json', 'package-lock.json'],
    output: 'dist/index.js',
    make: () => {
      for (const name of existsSync(join(root, 'dist')) ? readdirSync(join(root, 'dist')) : []) {
        // The browser's part has steps of its own.
        if (name !== 'browser') rmSync(join(root, 'dist', name), { recursive: true, force: true })
      }
      runTool('typescript', [])
      copyFileSync(join(root, 'ts/package.json'), join(root, 'dist/package.json'))
    },
  })
}

/** The addon to `npm/<platform>/realm.node`, with that platform's package.json. */
export async function buildAddon(profile, name) {
  const { PLATFORMS, currentPlatform } = (await import('../dist/platforms.js')).default
  const current = currentPlatform()
  const platform = name === undefined ? current : PLATFORMS.find((each) => each.name === name)
  const cross = platform === current ? undefined : CROSS_TARGETS[platform?.name]
  if (platform === undefined || (platform !== current && cross === undefined)) {
    const wanted = name ?? `${process.platform}-${process.arch}`
    console.error(`the addon cannot be built for ${wanted} on ${current?.name ?? 'this machine'}`)
    process.exit(1)
  }
  const output = `npm/${platform.name}/realm.node`
  step(cross === undefined ? 'addon' : `addon-${platform.name}`, {
    key: profile,
    inputs: ['crates', 'Cargo.toml', 'Cargo.lock'],
    output,
    make: () => {
      const target = cross === undefined ? [] : ['--target', cross.triple]
      const args = ['build', '--locked', '--profile', profile, '-p', 'realm-node', ...target]
      run('cargo', args, {
        env: { ...process.env, ...(cross && cargoEnvironment(cross)) },
      })
      const folder = join(targetDirectory(), cross?.triple ?? '', profileDirectory(profile))
      mkdirSync(join(root, dirname(output)), { recursive: true })
      writePlatformPackage(platform)
      // By way of another name: a running process may have the old file mapped.
      copyFileSync(join(folder, CARGO_LIBRARY[platform.os]), join(root, `${output}.new`))
      renameSync(join(root, `${output}.new`), join(root, output))
    },
  })
}

/** Cargo's folder for what it builds with a profile: of its own profiles two share one with another. */
function profileDirectory(profile) {
  return { dev: 'debug', test: 'debug', bench: 'release' }[profile] ?? profile
}

/** package.json of the package that holds a platform's binary. */
function writePlatformPackage({ name, os, cpu, libc }) {
  const facade = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const manifest = {
    name: `${facade.name}-${name}`,
    version: facade.version,
    description: `The engine of ${facade.name} for ${name}`,
    license: facade.license,
    main: 'realm.node',
    files: ['realm.node'],
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    engines: facade.engines,
    scripts: { prepack: `node ../../scripts/build.mjs --profile dist --platform ${name}` },
  }
  const path = join(root, 'npm', name, 'package.json')
  const text = `${JSON.stringify(manifest, null, 2)}\n`
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
}

export function targetDirectory() {
  const { stdout } = spawnSync(
    'cargo',
    ['metadata', '--format-version', '1', '--no-deps', '--offline'],
    { cwd: root, encoding: 'utf8' },
  )
  return JSON.parse(stdout).target_directory
}

/** Makes `output` if it is missing, was made with another key, or before an input last changed. */
export function step(name, { key = '', inputs, output, make }) {
  const stamp = join(root, 'target', 'stamps', name)
  const newest = Math.max(...inputs.map((input) => newestChange(join(root, input))))
  const isFresh =
    existsSync(join(root, output)) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === key &&
    statSync(stamp).mtimeMs >= newest
  if (isFresh) return
  const began = new Date()
  make()
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, key)
  // What changed while it was being made is newer than the stamp.
  utimesSync(stamp, began, began)
}

/** Newest modification below a path; a folder's own tells of files added and removed. */
function newestChange(path) {
  const stats = statSync(path)
  if (!stats.isDirectory()) return stats.mtimeMs
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => newestChange(join(path, name))))
}
