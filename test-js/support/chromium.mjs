/**
 * A real Chromium for the tests, and pages to run things in.
 */

import { chromium } from 'playwright-core'
import { findChromium } from './chromium-path.mjs'

/** No sandbox, since tests run as root in containers; nothing of its own on the network. */
const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Starts the browser. */
export async function launchChromium({ args = [] } = {}) {
  const executablePath = findChromium()
  if (executablePath === undefined)
    throw new Error('no Chromium found: install it, or name it in REALM_CHROMIUM')
  return chromium.launch({ executablePath, args: [...FLAGS, ...args] })
}
