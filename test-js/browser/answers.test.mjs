/**
 * The bundled model in a page: the same answers as elsewhere, whatever it is loaded from.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel, referenceFile } from '../support/models.mjs'
import { openRealmPage, serveRealm } from './support/realm-page.mjs'

const expected = JSON.parse(readFileSync(referenceFile('expected.json'), 'utf8'))
const [story] = expected.prompts
const GREEDY = { temperature: 0 }

describe('a model in a page', () => {
  let browser
  let server
  let page

  before(async () => {
    browser = await launchChromium()
    server = await serveRealm({ 'tiny.gguf': bundledModel })
    page = await openRealmPage(browser, server)
  })

  after(async () => {
    await browser?.close()
    server?.close()
  })

  it('answers as on the desktop, loaded by its address', async (t) => {
    const answer = await page.evaluate(
      async ({ prompt, options }) => {
        const realm = await window.realm.Realm.create()
        const model = await realm.load('/models/tiny.gguf')
        const result = await model.generate(prompt, options)
        const { backend, backendReason } = model.info
        await realm.dispose()
        return { ...result, tokens: [...result.tokens], backend, backendReason }
      },
      { prompt: story.prompt, options: { ...GREEDY, maxTokens: 256 } },
    )
    t.diagnostic(`${answer.backend}: ${answer.backendReason}`)
    assert.equal(answer.text, story.greedy.Q8_0.text)
  })
})
