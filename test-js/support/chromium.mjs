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

/** Flags for WebGPU on the device that Chromium brings along, which computes in software. */
export const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']

/** Starts the browser. Its contexts keep everything in memory. */
export async function launchChromium({ args = [] } = {}) {
  return chromium.launch({ executablePath: requireChromium(), args: [...FLAGS, ...args] })
}

/** Starts a browser that keeps what it stores in a folder; its one context. */
export async function launchWithProfile(folder, { args = [] } = {}) {
  const options = { executablePath: requireChromium(), args: [...FLAGS, ...args] }
  return chromium.launchPersistentContext(folder, options)
}

function requireChromium() {
  const path = findChromium()
  if (path !== undefined) return path
  throw new Error('no Chromium found: install it, or name it in REALM_CHROMIUM')
}
