/**
 * The example pages as their visitors use them.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { root, runTool } from '../../scripts/steps.mjs'
import { launchChromium } from '../support/chromium.mjs'
import { inFolder, serveFiles } from '../support/file-server.mjs'
import { bundledModel } from '../support/models.mjs'

const CHAT = join(root, 'target', 'browser-chat')
/** As strict as a site can be that runs WebAssembly and fetches models from anywhere. */
const HEADERS = {
  'content-security-policy':
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src *; frame-src 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
}

let browser

before(async () => {
  browser = await launchChromium()
})
after(() => browser?.close())

describe('the chat page', () => {
  let server
  let context
  let page

  before(() => {
    const folder = join(root, 'examples', 'browser-chat')
    runTool('vite', ['build', folder, '--outDir', CHAT, '--emptyOutDir', '--logLevel', 'warn'])
  })
  beforeEach(async () => {
    server = await serveFiles(inFolder(CHAT, HEADERS))
    context = await browser.newContext()
    page = await openPage(context, `${server.origin}/`)
  })
  afterEach(async () => {
    await context.close()
    server.close()
  })

  const button = (name) => page.getByRole('button', { name, exact: true })
  const prompt = () => page.getByLabel('Your message')
  const answer = () => page.locator('.assistant').last()

  async function startTiny() {
    await button('Start').click()
    await prompt().waitFor()
  }

  async function ask(text) {
    await prompt().fill(text)
    await prompt().press('Enter')
  }

  it('streams an answer and says how fast, with what memory, and where it runs', async () => {
    await startTiny()
    await whenWritten(page, '.assistant .body', () => {
      window.lengths ??= new Set()
      window.lengths.add(document.querySelector('.assistant .body').textContent.length)
    })
    await ask('Tell me a story about a fox.')
    await answer().locator('.note').waitFor()
    const lengths = await page.evaluate(() => [...window.lengths])
    assert.ok(lengths.length > 3, `seen with lengths ${lengths}`)
    assert.equal((await answer().locator('.body').textContent()).length, lengths.at(-1))
    assert.match(await answer().locator('.note').textContent(), /\d+ tokens · [\d.]+ tokens\/s/)
    assert.match(await page.locator('#meter-memory').textContent(), /^[\d.]+ MB$/)
    await page.getByRole('button', { name: /^Tiny stories/ }).click()
    const details = await page.getByRole('dialog').textContent()
    assert.match(details, /Runs on(webgpu|cpu)Why.+Memory/)
  })

  it('goes on with a conversation, and begins a new one', async () => {
    await startTiny()
    await page.getByRole('button', { name: 'Tell me a story about a fox.' }).click()
    await page.locator('.note').waitFor()
    await ask('And then?')
    await page.locator('.note').nth(1).waitFor()
    await button('New chat').click()
    assert.equal(await page.locator('.message').count(), 0)
  })

  it('stops on Escape, and by its button', async () => {
    await startTiny()
    const pressEscape = () => dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))
    const pressStop = () => document.querySelector('#stop-button').click()
    for (const stop of [pressEscape, pressStop]) {
      await whenWritten(page, '.message:last-child .body', stop)
      await ask('Tell me a story about a fox.')
      await answer().locator('.note').waitFor()
      assert.match(await answer().locator('.note').textContent(), /^Stopped/)
      assert.ok(await button('Send').isVisible())
      await button('New chat').click()
    }
  })

  it('sends with Enter and takes Shift+Enter as a new line', async () => {
    await startTiny()
    await prompt().pressSequentially('one')
    await prompt().press('Shift+Enter')
    await prompt().pressSequentially('two')
    assert.equal(await page.locator('.message').count(), 0)
    await prompt().press('Enter')
    assert.equal(await page.locator('.user .body').textContent(), 'one\ntwo')
    assert.equal(await prompt().inputValue(), '')
  })

  it('opens a file', async () => {
    await page.locator('#file-input').setInputFiles(bundledModel)
    await prompt().waitFor()
    assert.match(await page.locator('#model-name').textContent(), /Q8_0\.gguf/)
  })

  it('opens an address, keeps the model, and deletes it', async () => {
    const url = `${server.origin}/models/realm-tiny-stories-Q8_0.gguf?copy`
    await page.getByLabel('From the web').fill(url)
    await button('Load').click()
    await prompt().waitFor()
    await button('Models').click()
    const kept = page.locator('#kept-list li')
    await kept.waitFor()
    assert.match(await kept.textContent(), /3\.97 MB/)
    await kept.getByRole('button', { name: /^Delete/ }).click()
    await kept.waitFor({ state: 'detached' })
  })

  it('says what is wrong with an address, and what a server answered', async () => {
    await page.getByLabel('From the web').fill('model.gguf')
    await button('Load').click()
    assert.match(await page.locator('#url-problem').textContent(), /https:\/\//)
    await page.getByLabel('From the web').fill(`${server.origin}/missing.gguf`)
    await button('Load').click()
    const error = page.getByRole('alert').filter({ hasText: 'could not be downloaded' })
    await error.waitFor()
    assert.match(await error.textContent(), /missing\.gguf: the server answered 404/)
    assert.equal(await page.evaluate(() => document.activeElement.id), 'retry-button')
    // The engine goes on working.
    await startTiny()
  })

  it('shows how a download goes, and cancels it', async () => {
    server.files.set('/slow.gguf', { bytes: readFileSync(bundledModel), delayMs: 40 })
    await page.getByLabel('From the web').fill(`${server.origin}/slow.gguf`)
    await button('Load').click()
    const facts = page.locator('#loading-facts')
    await facts.filter({ hasText: /of 3\.97 MB · [\d.]+ [kM]B\/s · [\d.]+ m?s left/ }).waitFor()
    await button('Cancel').click()
    await button('Start').waitFor()
    assert.equal(await page.locator('#error').isVisible(), false)
  })

  it('works without a network after the first visit', async () => {
    await startTiny()
    const engines = () =>
      page.evaluate(async () => {
        const names = await caches.keys()
        const caches_ = await Promise.all(names.map((name) => caches.open(name)))
        const kept = (await Promise.all(caches_.map((cache) => cache.keys()))).flat()
        return kept.map(({ url }) => url).filter((url) => url.endsWith('.wasm'))
      })
    while ((await engines()).length === 0) await sleep(50)
    // Of the builds of the engine, the one that this browser runs.
    assert.match((await engines()).join(), /^[^,]+realm-(threads|relaxed)[^,]*\.wasm$/)
    server.close()
    await page.reload()
    await startTiny()
    await ask('Tell me a story about a fox.')
    await answer().locator('.note').waitFor()
    assert.match(await answer().locator('.note').textContent(), /tokens\/s/)
  })

  it('fits a phone', async () => {
    await page.setViewportSize({ width: 390, height: 700 })
    const overflow = () =>
      page.evaluate(
        () => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth,
      )
    assert.equal(await overflow(), 0)
    await startTiny()
    await ask(
      'A rather long message, such as people write, which takes more than one line on a phone.',
    )
    await answer().locator('.note').waitFor()
    assert.equal(await overflow(), 0)
    const { right } = await button('Send').evaluate((element) => element.getBoundingClientRect())
    assert.ok(right <= 390)
  })
})

describe('the plain page', () => {
  it('tells a story, and stops', async () => {
    const server = await serveFiles(inFolder(root))
    const context = await browser.newContext()
    const page = await openPage(context, `${server.origin}/examples/browser-plain/`)
    const status = page.getByRole('status').last()
    await status.filter({ hasText: /^Ready, on (webgpu|cpu)/ }).waitFor()
    await page.getByRole('button', { name: 'Go on' }).click()
    await status.filter({ hasText: /\d+ tokens/ }).waitFor()
    const story = await page.locator('#answer').textContent()
    assert.match(story, /^Once upon a time, a fox.+/)
    await whenWritten(page, '#answer', () => document.querySelector('#stop').click())
    await page.getByRole('button', { name: 'Go on' }).click()
    await status.filter({ hasText: 'ended by: abort' }).waitFor()
    await context.close()
    server.close()
  })
})

/**
 * Does something in the page as soon as an answer has begun to grow, and each time it grows: the
 * tiny model is done before a test could.
 */
async function whenWritten(page, selector, action) {
  const watch = (selector, action) => {
    window.watch?.disconnect()
    window.watch = new MutationObserver((changes) => {
      const element = document.querySelector(selector)
      const isGrown = element !== null && changes.some(({ target }) => target === element)
      if (isGrown && element.textContent !== '') action()
    })
    window.watch.observe(document.body, { childList: true, subtree: true })
  }
  await page.evaluate(`(${watch})(${JSON.stringify(selector)}, ${action})`)
}

/** A page on which nothing may go wrong unseen. */
async function openPage(context, url) {
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  page.on('pageerror', (error) => console.error('page:', error))
  page.on('console', (message) => {
    if (message.type() === 'error') console.error('page:', message.text())
  })
  await page.goto(url)
  return page
}
