/**
 * Pages without a secure context, which have no private file system, no locks and no service
 * workers: models run there all the same, and are not kept.
 */

import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel } from '../support/models.mjs'
import { openRealmPage, serveRealm } from './support/realm-page.mjs'

const HOST = 'insecure.test'

let browser
let server
let page

before(async () => {
  browser = await launchChromium({ args: [`--host-resolver-rules=MAP ${HOST} 127.0.0.1`] })
  server = await serveRealm({ 'tiny.gguf': bundledModel })
  page = await openRealmPage(browser, { origin: server.origin.replace('127.0.0.1', HOST) })
})
after(async () => {
  await browser?.close()
  server?.close()
})

it('a model is loaded by its address, and the logger hears that it is not kept', async () => {
  const { isSecure, text, messages, kept } = await page.evaluate(async () => {
    const messages = []
    const logger = ({ message }) => messages.push(message)
    const generate = async (model) =>
      (await model.generate('Once upon a time', { temperature: 0, maxTokens: 8 })).text
    const text = await window.withModel('/models/tiny.gguf', generate, {}, { logger })
    const kept = await window.realm.Realm.cache.list()
    return { isSecure: isSecureContext, text, messages, kept }
  })
  assert.equal(isSecure, false)
  assert.notEqual(text, '')
  assert.match(messages.join('\n'), /tiny\.gguf: .*the download is not kept/)
  assert.deepEqual(kept, [])
})

it('the cache says that there is no room to speak of, and has nothing to delete', async () => {
  const { quota, deleted, persists } = await page.evaluate(async () => {
    const { cache } = window.realm.Realm
    const deleted = await cache.delete('https://example.org/model.gguf')
    return { quota: await cache.quota(), deleted, persists: await cache.persist() }
  })
  assert.deepEqual(quota, { usage: 0, quota: 0, persisted: false })
  assert.equal(deleted, false)
  assert.equal(persists, false)
})
