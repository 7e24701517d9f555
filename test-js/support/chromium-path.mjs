/**
 * Where Chromium is. By itself, since set-up asks before there are dependencies.
 */

import { existsSync } from 'node:fs'

/** The program itself rather than a package's script around it, where there are both. */
const PATHS = [
  process.env.REALM_CHROMIUM,
  '/usr/lib/chromium/chromium',
  '/usr/bin/chromium',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** Path of a Chromium; undefined where there is none. */
export function findChromium() {
  return PATHS.find((path) => path !== undefined && existsSync(path))
}
