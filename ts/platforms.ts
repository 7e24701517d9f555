/**
 * The platforms that the engine is built for, each with a package of its own
 * that holds the binary. Adding one is one line here.
 */

/** A platform and what npm needs to know to install its package there only. */
export interface Platform {
  /** Last part of the package's name, and its folder under `npm/`. */
  readonly name: string
  readonly os: NodeJS.Platform
  readonly cpu: NodeJS.Architecture
  readonly libc?: 'glibc' | 'musl'
}

export const PLATFORMS: readonly Platform[] = [
  { name: 'linux-x64-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  { name: 'linux-x64-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  { name: 'linux-arm64-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  { name: 'linux-arm64-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  { name: 'darwin-arm64', os: 'darwin', cpu: 'arm64' },
  { name: 'darwin-x64', os: 'darwin', cpu: 'x64' },
  { name: 'win32-x64-msvc', os: 'win32', cpu: 'x64' },
  { name: 'win32-arm64-msvc', os: 'win32', cpu: 'arm64' },
]

/** This process's platform, or undefined when there is no engine for it. */
export function currentPlatform(): Platform | undefined {
  const libc = process.platform === 'linux' ? currentLibc() : undefined
  return PLATFORMS.find(
    ({ os, cpu, libc: needed }) =>
      os === process.platform && cpu === process.arch && needed === libc,
  )
}

/** Name of the npm package that holds a platform's binary. */
export function packageName(platform: Platform): string {
  return `@realm-ai/realm-${platform.name}`
}

/** Node's own report names glibc's version where Node runs on glibc. */
function currentLibc(): 'glibc' | 'musl' {
  const report = process.report?.getReport() as
    | { header?: { glibcVersionRuntime?: string } }
    | undefined
  return report?.header?.glibcVersionRuntime === undefined ? 'musl' : 'glibc'
}
