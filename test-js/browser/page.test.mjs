/**
 * What a page has of it besides answers: it stays responsive, gets its memory back, and may be
 * strict about where scripts come from.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel } from '../support/models.mjs'
import { ISOLATED, openRealmPage, serveRealm } from './support/realm-page.mjs'

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

  it('computes with threads where it is isolated, to the same answer', async (t) => {
    const alone = await openRealmPage(browser, await serve())
    const isolated = await openRealmPage(browser, await serve({ headers: ISOLATED }))
    const describe = (page) =>
      page.evaluate(() =>
        window.withModel('/models/tiny.gguf', async (model) => {
          const { text } = await model.generate('Once upon a time', {
            temperature: 0,
            maxTokens: 40,
          })
          const [backend] = (await window.realm.Realm.backends()).filter(
            ({ name }) => name === 'cpu',
          )
          return { text, threads: model.info.threads, description: backend.description }
        }),
      )
    const [one, several] = [await describe(alone), await describe(isolated)]
    assert.equal(one.threads, 1)
    assert.match(one.description, /not cross-origin isolated/)
    assert.ok(several.threads > 1, `${several.threads} threads`)
    assert.equal(several.text, one.text)
    t.diagnostic(`${several.threads} threads: ${several.description}`)
    for (const page of [alone, isolated]) await page.context().close()
  })

  it('has no worker left of a load that fails, or is aborted, at its very end', async () => {
    const page = await openRealmPage(browser, await serve())
    const outcomes = await page.evaluate(async () => {
      let running = 0
      const Started = window.Worker
      window.Worker = class extends Started {
        constructor(...args) {
          super(...args)
          running += 1
        }
        terminate() {
          running -= 1
          super.terminate()
        }
      }
      const realm = await window.realm.Realm.create({ backend: 'cpu' })
      const { grow } = WebAssembly.Memory.prototype
      /** Loads; `atEnd` is called when the worker is done and its vocabulary is taken over. */
      const load = async (atEnd, options) => {
        WebAssembly.Memory.prototype.grow = function (...args) {
          atEnd()
          return grow.apply(this, args)
        }
        const failure = await window.failure(() => realm.load('/models/tiny.gguf', options))
        WebAssembly.Memory.prototype.grow = grow
        return { code: failure?.code, running }
      }
      const failed = await load(() => {
        throw new RangeError('no memory')
      })
      const controller = new AbortController()
      const aborted = await load(() => controller.abort(), { signal: controller.signal })
      const stream = new ReadableStream()
      stream.getReader()
      const locked = await window.failure(() => realm.load(stream))
      const wrong = await window.failure(() => realm.load([new Blob(), () => {}]))
      const codes = [failed, aborted].map(({ code }) => code)
      await realm.dispose()
      return { codes, others: [locked.code, wrong.code], running }
    })
    assert.deepEqual(outcomes, {
      codes: ['INTERNAL', 'ABORTED'],
      others: ['INVALID_ARGUMENT', 'INVALID_ARGUMENT'],
      running: 0,
    })
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
