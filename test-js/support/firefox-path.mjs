/**
 * Where Firefox is. By itself, since set-up asks before there are dependencies.
 */

import { existsSync } from 'node:fs'

const PATHS = [
  process.env.REALM_FIREFOX,
  '/usr/lib/firefox-esr/firefox-esr',
  '/usr/bin/firefox-esr',
  '/usr/bin/firefox',
  '/Applications/Firefox.app/Contents/MacOS/firefox',
]

/** Path of a Firefox; undefined where there is none. */
export function findFirefox() {
  return PATHS.find((path) => path !== undefined && existsSync(path))
}
