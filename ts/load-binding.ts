/**
 * Finds the engine's native addon: the platform's package, or what a build in
 * a checkout left under `npm/`.
 */

import { join } from 'node:path'
import type { Binding, LockBinding, QuantizeBinding, SyncBinding } from './binding.js'
import { RealmError } from './errors.js'
import { currentPlatform, PLATFORMS, packageName } from './platforms.js'

/** What the addon exports. */
export type NativeBinding = Binding & SyncBinding & QuantizeBinding & LockBinding

/** This package's version; the platform packages are released with the same one. */
export const version: string = (require('../package.json') as { version: string }).version

let loaded: NativeBinding | undefined

/**
 * The native addon, loaded on the first call.
 * @throws RealmError BACKEND_UNAVAILABLE  no binary for this platform, or one of another version
 */
export function loadBinding(): NativeBinding {
  loaded ??= find()
  return loaded
}

function find(): NativeBinding {
  const platform = currentPlatform()
  if (platform === undefined) {
    throw new RealmError(
      'BACKEND_UNAVAILABLE',
      `no engine for ${process.platform}-${process.arch}; there is one for: ` +
        PLATFORMS.map(({ name }) => name).join(', '),
    )
  }
  const name = packageName(platform)
  const failures: Error[] = []
  for (const from of [name, join(__dirname, '..', 'npm', platform.name, 'realm.node')]) {
    try {
      return checked(require(from) as NativeBinding, name)
    } catch (error) {
      if (error instanceof RealmError) throw error
      failures.push(error as Error)
    }
  }
  // A package that is there but does not load says more than a file that is not.
  const cause = failures.find((error) => !isMissing(error)) ?? failures[0]
  throw new RealmError(
    'BACKEND_UNAVAILABLE',
    `the engine for ${platform.name} could not be loaded from package ${name}: ` +
      `${cause?.message.split('\n')[0]}; install it with: npm install ${name}@${version}`,
    { cause },
  )
}

function isMissing(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND'
}

function checked(binding: NativeBinding, name: string): NativeBinding {
  const found = binding.version()
  if (found === version) return binding
  throw new RealmError(
    'BACKEND_UNAVAILABLE',
    `package ${name} is version ${found}, expected ${version}; install both in the same version`,
  )
}
