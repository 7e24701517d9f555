/**
 * Pages and browsers that lack something. Models run there all the same.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel } from '../support/models.mjs'
import { openRealmPage, serveRealm } from './support/realm-page.mjs'

const HOST = 'insecure.test'

let browser
let server

before(async () => {
  browser = await launchChromium({ args: [`--host-resolver-rules=MAP ${HOST} 127.0.0.1`] })
  server = await serveRealm({ 'tiny.gguf': bundledModel })
})
after(async () => {
  await browser?.close()
  server?.close()
})

/** Without one there is no private file system, no locks and no service workers. */
describe('without a secure context', () => {
  let page

  before(async () => {
    page = await openRealmPage(browser, { origin: server.origin.replace('127.0.0.1', HOST) })
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
})

describe('without streams that can be handed to workers', () => {
  it('a model is loaded from a stream', async () => {
    const page = await openRealmPage(browser, server)
    const text = await page.evaluate(async () => {
      const refuse = (value) => {
        if (!(value instanceof ReadableStream)) return
        throw new DOMException('a stream could not be cloned', 'DataCloneError')
      }
      const { postMessage } = Worker.prototype
      Worker.prototype.postMessage = function (message, transfer) {
        refuse(message.source)
        return postMessage.call(this, message, transfer)
      }
      window.structuredClone = refuse
      const { body } = await fetch('/models/tiny.gguf')
      const options = { temperature: 0, maxTokens: 8 }
      const generate = async (model) => (await model.generate('Once upon a time', options)).text
      return window.withModel(body, generate)
    })
    assert.notEqual(text, '')
  })
})

/** The page has a device; the worker, which is to compute with it, has none. */
describe('with a graphics device that only seems to work', () => {
  let page
  let own

  before(async () => {
    own = await serveRealm({ 'tiny.gguf': bundledModel })
    page = await openRealmPage(browser, own)
    await page.evaluate(() => {
      const gpu = { requestAdapter: async () => ({ info: { vendor: 'nobody' } }) }
      Object.defineProperty(navigator, 'gpu', { value: gpu })
    })
  })
  after(() => own?.close())

  const fetched = () =>
    own.requests.map(({ path }) => path).filter((path) => path.endsWith('.wasm'))

  it('a model comes to run on the CPU, by the build for it, and says why', async () => {
    const { text, info } = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) => {
        const { text } = await model.generate('Once upon a time', { temperature: 0, maxTokens: 8 })
        return { text, info: model.info }
      }),
    )
    assert.notEqual(text, '')
    assert.equal(info.backend, 'cpu')
    assert.match(
      info.backendReason,
      /^webgpu refused: backend webgpu is not available: .*cpu was next$/,
    )
    assert.deepEqual(fetched(), ['/realm/realm-webgpu.wasm', '/realm/realm-relaxed.wasm'])
  })

  it('a model that may not run on the CPU is refused with the reason', async () => {
    const failure = await page.evaluate(() =>
      window.failure(() =>
        window.withModel('/models/tiny.gguf', () => {}, {}, { backend: 'webgpu', fallback: [] }),
      ),
    )
    assert.equal(failure.code, 'BACKEND_UNAVAILABLE')
    assert.match(failure.message, /^backend webgpu is not available: /)
  })
})
