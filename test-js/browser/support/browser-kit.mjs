/**
 * The conformance kit on models of a page in a real Chromium.
 */

import { launchChromium, WEBGPU } from '../../support/chromium.mjs'
import { pageModels } from './page-model.mjs'
import { openRealmPage, serveRealm } from './realm-page.mjs'

/** Kinds of cases that are about what the engine computes. */
export const BROWSER_KINDS = ['logits', 'quant-logits']

/** What `openKit` needs to run cases on a backend of a page, and a way to end it. */
export async function openBrowserKit(backend) {
  const isGpu = backend === 'webgpu'
  const browser = await launchChromium({ args: isGpu ? WEBGPU : [] })
  const server = await serveRealm({})
  const page = await openRealmPage(browser, server)
  const device = isGpu ? 'swiftshader' : undefined
  return {
    how: { withModel: pageModels(page, server), backend, device },
    close: async () => {
      await browser.close()
      server.close()
    },
  }
}
