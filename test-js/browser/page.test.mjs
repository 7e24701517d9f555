/**
 * What a page has of it besides answers: it stays responsive, gets its memory back, and may be
 * strict about where scripts come from.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel } from '../support/models.mjs'
import { openRealmPage, serveRealm } from './support/realm-page.mjs'

const MODELS = { 'tiny.gguf': bundledModel }

/** A short answer, in the page. */
const answer = (page) =>
  page.evaluate(() =>
    window.withModel(
      '/models/tiny.gguf',
      async (model) =>
        (await model.generate('Once upon a time', { temperature: 0, maxTokens: 8 })).text,
    ),
  )

describe('a page with the browser package', () => {
  let browser
  const servers = []

  before(async () => {
    browser = await launchChromium()
  })

  after(async () => {
    await browser?.close()
    for (const server of servers) server.close()
  })

  async function serve(options) {
    const server = await serveRealm(MODELS, options)
    servers.push(server)
    return server
  }

  it('works under a policy that allows nothing but its own scripts and WebAssembly', async () => {
    const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'"
    const server = await serve({ headers: { 'content-security-policy': policy } })
    const page = await openRealmPage(browser, server)
    assert.notEqual(await answer(page), '')
    await page.context().close()
  })

  it('works when it comes from another origin', async () => {
    const cdn = await serve()
    const server = await serve({ packageOrigin: cdn.origin })
    const page = await openRealmPage(browser, server)
    assert.notEqual(await answer(page), '')
    assert.equal(server.requests.filter(({ path }) => path.startsWith('/realm/')).length, 0)
    await page.context().close()
  })

  it('has no task that is long while a model loads and answers', async (t) => {
    const page = await openRealmPage(browser, await serve())
    await page.evaluate(() => {
      window.longTasks = []
      const observer = new PerformanceObserver((list) => {
        window.longTasks.push(...list.getEntries().map(({ duration }) => duration))
      })
      observer.observe({ type: 'longtask' })
    })
    assert.notEqual(await answer(page), '')
    // Timings depend on the machine: they are told, not judged.
    t.diagnostic(`tasks over 50 ms: ${JSON.stringify(await page.evaluate(() => window.longTasks))}`)
    await page.context().close()
  })

  it('keeps neither workers nor memory over twenty rounds of loading and disposing', async (t) => {
    const page = await openRealmPage(browser, await serve())
    const session = await browser.newBrowserCDPSession()
    const round = async () => {
      assert.notEqual(await answer(page), '')
      await page.waitForTimeout(50) // the browser tells of a worker's end a little later
      assert.equal(page.workers().length, 0)
      await page.requestGC()
      const { processInfo } = await session.send('SystemInfo.getProcessInfo')
      const renderers = processInfo.filter(({ type }) => type === 'renderer')
      return renderers.reduce((sum, { id }) => sum + residentBytes(id), 0) / 2 ** 20
    }
    const mebibytes = []
    for (let i = 0; i < 20; i++) mebibytes.push(Math.round(await round()))
    t.diagnostic(`MiB after each round: ${mebibytes.join(' ')}`)
    // The first rounds warm up; one model takes more than this.
    const settled = Math.max(...mebibytes.slice(4, 10))
    assert.ok(Math.min(...mebibytes.slice(-5)) < settled + 12, mebibytes.join(' '))
    await page.context().close()
  })
})

/** Resident memory of a process that it shares with nobody. */
function residentBytes(id) {
  const [, resident, shared] = readFileSync(`/proc/${id}/statm`, 'utf8').split(' ').map(Number)
  return (resident - shared) * 4096
}
