/**
 * Sources of models in a real browser: every kind is read, downloads survive whatever servers and
 * users do to them.
 */

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { launchChromium, launchWithProfile } from '../support/chromium.mjs'
import { serveFiles } from '../support/file-server.mjs'
import { randomGguf } from '../support/gguf.mjs'
import { compiled, openSourcesPage, serveSourcesPage } from './support/sources-page.mjs'

const MIB = 1 << 20
/** Small pieces and short waits, so that a test of many requests is quick. */
const policy = { pieceBytes: 65536, parallel: 4, attempts: 4, backoffMs: 20, stallMs: 700 }
const content = randomGguf(MIB + 12345)

let browser
let server
/** A server of another origin. */
let other
let context
let tab

before(async () => {
  browser = await launchChromium()
  server = await serveSourcesPage()
  other = await serveFiles()
})
after(async () => {
  await browser?.close()
  server?.close()
  other?.close()
})
beforeEach(async () => {
  context = await browser.newContext()
  tab = await openSourcesPage(context, server)
  server.requests.length = 0
  other.requests.length = 0
})
afterEach(() => context.close())

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const open = (source, options) => tab.call('open', source, { policy, ...options })
const progress = () => tab.page.evaluate(() => window.progress)
const log = () => tab.page.evaluate(() => window.log)
const list = () => tab.page.evaluate(async () => JSON.parse(JSON.stringify(await cache.list())))

/** Serves a file and gives its address. */
function serve(path, file, from = server) {
  from.files.set(path, { bytes: content, etag: '"v1"', ...file })
  return from.origin + path
}

/** Opens a source and checks that it holds these bytes. */
async function check(source, bytes = content, options) {
  const result = await open(source, options)
  assert.equal(result.error, undefined, JSON.stringify(result.error))
  assert.deepEqual(result.sizes, [bytes.length])
  assert.deepEqual(result.sha256, [sha256(bytes)])
  return result
}

async function checkFailure(source, code, message, options) {
  const { error } = await open(source, options)
  assert.equal(error?.name, 'RealmError', JSON.stringify(error))
  assert.equal(error.code, code)
  assert.match(error.message, message)
}

/** Waits until a download has come so far. */
const reached = (fraction) =>
  tab.page.waitForFunction((f) => window.progress.some((one) => one.fraction >= f), fraction)

describe('the checksum', () => {
  it('is SHA-256, whatever pieces the bytes come in', async () => {
    const { Sha256 } = await import(compiled('browser/sources/sha256.js'))
    const bytes = randomBytes(1000)
    for (let length = 0; length <= 300; length++)
      for (const piece of [1, 63, 64, 65, 200]) {
        const hash = new Sha256()
        for (let at = 0; at < length; at += piece)
          hash.update(bytes.subarray(at, Math.min(at + piece, length)))
        assert.equal(hash.digest(), sha256(bytes.subarray(0, length)), `${length} by ${piece}`)
      }
    const hash = new Sha256()
    hash.update(content)
    assert.equal(hash.digest(), sha256(content))
  })
})

describe('a source in memory', () => {
  const bytes = [...randomBytes(100)]
  for (const form of ['array', 'buffer', 'blob', 'handle', 'stream'])
    it(`is read: ${form}`, async () => {
      const result = await tab.call('openBytes', bytes, form)
      assert.deepEqual(result.sizes, [100])
      assert.deepEqual(result.sha256, [sha256(Buffer.from(bytes))])
    })

  for (const form of ['arrays', 'files out of order'])
    it(`is read part by part: ${form}`, async () => {
      const result = await tab.call('openBytes', bytes, form)
      assert.deepEqual(result.sizes, [10, 90])
      assert.equal(result.sha256[0], sha256(Buffer.from(bytes.slice(0, 10))))
    })

  it('refuses ranges outside of it, and everything once it is closed', async () => {
    for (const form of ['array', 'blob']) {
      const { id } = await tab.call('openBytes', bytes, form)
      assert.deepEqual(await tab.call('read', id, 98, 2), bytes.slice(98))
      assert.deepEqual(await tab.call('read', id, 100, 0), [])
      for (const [offset, length] of [
        [99, 2],
        [-1, 1],
        [0, -1],
        [0.5, 1],
        [Number.MAX_SAFE_INTEGER, 1],
      ])
        assert.equal((await tab.call('read', id, offset, length)).error.code, 'MODEL_UNREADABLE')
      await tab.call('close', id)
      assert.match((await tab.call('read', id, 0, 1)).error.message, /closed/)
    }
  })

  it('says what is wrong with it', async () => {
    const failure = async (form) => (await tab.call('openBytes', [], form)).error
    assert.equal((await failure('nothing')).code, 'INVALID_ARGUMENT')
    assert.equal((await failure('number')).code, 'INVALID_ARGUMENT')
    assert.equal((await failure('stream of text')).code, 'INVALID_ARGUMENT')
    const failed = await failure('failing stream')
    assert.equal(failed.code, 'MODEL_UNREADABLE')
    assert.match(failed.message, /the disk is gone/)
  })

  it('is given up when the signal says so while a stream is silent', async () => {
    const opening = tab.call('openBytes', [], 'silent stream')
    await tab.call('abort', 'silent stream')
    assert.equal((await opening).error.code, 'ABORTED')
  })
})

describe('a download', () => {
  it('asks for ranges, several at once, and reports how far it is', async () => {
    await check(serve('/plain.gguf'))
    const ranges = server.requests.map(({ range }) => range)
    assert.equal(new Set(ranges).size, Math.ceil(content.length / policy.pieceBytes))
    assert.equal(ranges[0], 'bytes=0-65535')
    const events = await progress()
    assert.deepEqual(events.at(-1), {
      stage: 'download',
      fraction: 1,
      receivedBytes: content.length,
      totalBytes: content.length,
    })
    const fractions = events.map(({ fraction }) => fraction)
    assert.deepEqual(
      fractions,
      fractions.toSorted((a, b) => a - b),
    )
  })

  it('is kept: the second time the server is only asked whether it has another', async () => {
    const url = serve('/kept.gguf')
    const { id } = await check(url)
    await tab.call('close', id)
    server.requests.length = 0
    await check(url)
    assert.deepEqual(
      server.requests.map(({ method }) => method),
      ['HEAD'],
    )
  })

  it('is used as it is kept while the server cannot be reached', async () => {
    const url = serve('/offline.gguf')
    await check(url)
    serve('/offline.gguf', { status: 503 })
    await check(url)
    assert.match((await log())[0].message, /503.*using the stored file/)
    await context.setOffline(true)
    await check(url)
  })

  it('is fetched again when the server has another version', async () => {
    const url = serve('/new.gguf')
    const { id } = await check(url)
    const changed = randomGguf(200_000)
    serve('/new.gguf', { bytes: changed, etag: '"v2"' })
    await check(url, changed)
    // Who has the old version open goes on reading it.
    assert.deepEqual(await tab.call('read', id, 5, 3), [...content.subarray(5, 8)])
    assert.equal((await list()).length, 1)
  })

  it('stays when what is to take its place is refused, no model, or ends early', async () => {
    const url = serve('/stays.gguf')
    await check(url)
    const changed = randomGguf(900_000)
    const lies = [
      { status: 403 },
      { bytes: Buffer.from('<html>log in</html>') },
      { bytes: changed.subarray(0, 500_000) },
      { bytes: changed, ranges: false, chunked: true, endAfter: 700_000 },
    ]
    for (const file of lies) {
      serve('/stays.gguf', { etag: '"v2"', ...file })
      const { id } = await check(url)
      assert.match((await log()).at(-1).message, /using the stored file/)
      await tab.call('close', id)
    }
    serve('/stays.gguf', { bytes: changed, etag: '"v3"' })
    await check(url, changed)
    const [model, ...others] = await list()
    assert.deepEqual(others, [])
    assert.equal(model.bytes, changed.length)
  })

  it('is replaced as a whole where it has several parts', async () => {
    const nameOf = (i) => `/r-0000${i + 1}-of-00002.gguf`
    const serveParts = (parts, more = {}) =>
      parts.map((bytes, i) => serve(nameOf(i), { bytes, etag: `"${sha256(bytes)}"`, ...more }))[0]
    const old = [randomGguf(300_000), randomGguf(200_000)]
    const url = serveParts(old)
    await open(url)
    const newer = [old[0], randomGguf(210_000)]
    serveParts(newer)
    serve(nameOf(1), { bytes: newer[1], etag: '"v2"', dropAfter: 0 })
    assert.deepEqual((await open(url)).sha256, old.map(sha256))
    serve(nameOf(1), { bytes: newer[1], etag: '"v2"' })
    server.requests.length = 0
    assert.deepEqual((await open(url)).sha256, newer.map(sha256))
    assert.equal(server.sentBytes(nameOf(0)), 0)
  })

  it('is not asked about where the option says never, and not waited for in silence', async () => {
    const url = serve('/mute.gguf')
    await check(url)
    serve('/mute.gguf', { mute: true })
    server.requests.length = 0
    await check(url, content, { revalidate: Number.POSITIVE_INFINITY })
    assert.equal(server.requests.length, 0)
    await check(url, content, { policy: { ...policy, stallMs: 120_000 } })
    assert.match((await log()).at(-1).message, /no answer within 3 s; using the stored file/)
  })

  it('has a key, headers and secrets of its own', async () => {
    const hosted = (query) => ({
      url: `${serve('/signed.gguf')}?sig=${query}`,
      cacheKey: 'my model',
      headers: { 'x-key': 'secret' },
    })
    await check(hosted('AAA'))
    server.requests.length = 0
    await check(hosted('BBB'))
    assert.deepEqual(
      server.requests.map(({ method, headers }) => [method, headers['x-key']]),
      [['HEAD', 'secret']],
    )
    const [model] = await list()
    assert.equal(model.cacheKey, 'my model')
    assert.equal(model.url, `${server.origin}/signed.gguf?sig=***`)
  })

  it('goes on after a reload with the pieces that are missing', async () => {
    const url = serve('/slow.gguf', { delayMs: 25 })
    open(url).catch(() => {})
    await reached(0.4)
    await tab.reload()
    const [partial] = await list()
    assert.equal(partial.isComplete, false)
    assert.ok(partial.bytes > 0.2 * content.length, `${partial.bytes} bytes`)
    assert.equal(partial.totalBytes, content.length)
    serve('/slow.gguf')
    server.requests.length = 0
    await check(url)
    assert.equal(server.sentBytes('/slow.gguf'), content.length - partial.bytes)
    assert.ok((await progress())[0].receivedBytes >= partial.bytes)
  })

  it('starts anew after a reload when the file has changed meanwhile', async () => {
    const url = serve('/moved-on.gguf', { delayMs: 25 })
    open(url).catch(() => {})
    await reached(0.4)
    await tab.reload()
    const changed = randomGguf(content.length)
    serve('/moved-on.gguf', { bytes: changed, etag: '"v2"' })
    await check(url, changed)
  })

  it('starts anew when the file changes under way', async () => {
    const url = serve('/changing.gguf', { delayMs: 15 })
    const changed = randomGguf(900_000)
    const opening = check(url, changed)
    await reached(0.3)
    serve('/changing.gguf', { bytes: changed, etag: '"v2"' })
    await opening
  })

  it('is given up when the file never stops changing', async () => {
    const url = serve('/restless.gguf')
    let version = 0
    Object.defineProperty(server.files.get('/restless.gguf'), 'etag', {
      get: () => {
        version += 1
        return `"${version}"`
      },
    })
    await checkFailure(url, 'DOWNLOAD_FAILED', /keeps changing/)
  })

  it('survives connections that are cut, going on where they were', async () => {
    const url = serve('/cut.gguf', { dropAfter: 20_000, drops: 12 })
    await check(url)
    // A browser may drop what has not reached the page when the connection breaks, so how many
    // bytes are asked for again is up to it; that later requests begin inside pieces is not.
    const starts = server.requests.map(({ range }) => Number(/\d+/.exec(range ?? '0')[0]))
    const inside = starts.filter((start) => start % policy.pieceBytes !== 0)
    assert.ok(inside.length > 0, `requests from ${starts}`)
  })

  it('survives servers that are busy for a while', async () => {
    await check(serve('/busy.gguf', { status: 503, failures: 2, headers: { 'retry-after': '0' } }))
  })

  it('survives a server that falls silent', async () => {
    const url = serve('/silent.gguf', { silent: true })
    const opening = check(url)
    await tab.page.waitForFunction(() => window.progress.length > 0)
    serve('/silent.gguf')
    await opening
  })

  it('takes the whole file from a server without ranges', async () => {
    const url = serve('/whole.gguf', { ranges: false })
    await check(url)
    assert.equal(server.sentBytes('/whole.gguf'), content.length)
    await check(serve('/chunked.gguf', { ranges: false, chunked: true }))
  })

  it('starts such a file again when it is cut', async () => {
    await check(serve('/whole-cut.gguf', { ranges: false, dropAfter: 300_000, drops: 2 }))
  })

  it('works from another origin, whether or not it shows its headers', async () => {
    await check(serve('/shown.gguf', {}, other))
    await check(serve('/hidden.gguf', { expose: false }, other))
    assert.ok(other.requests.some(({ range }) => range !== undefined))
    await check(serve('/no-head.gguf', { expose: false, head: false }, other))
  })

  it('needs no answer to HEAD', async () => {
    const url = serve('/no-head.gguf', { head: false })
    await check(url)
    await check(url)
    assert.ok(server.sentBytes('/no-head.gguf') < content.length + 10)
  })

  it('stops when its signal says so, and goes on from there', async () => {
    const url = serve('/stopped.gguf', { delayMs: 25 })
    const opening = open(url, { signal: 'stop' })
    await reached(0.4)
    await tab.call('abort', 'stop')
    assert.equal((await opening).error.code, 'ABORTED')
    serve('/stopped.gguf')
    server.requests.length = 0
    await check(url)
    assert.ok(server.sentBytes('/stopped.gguf') < 0.8 * content.length)
  })

  it('of a split file brings all parts', async () => {
    const parts = [randomGguf(400_000), randomGguf(660_921)]
    const [first] = parts.map((bytes, i) => serve(`/m-0000${i + 1}-of-00002.gguf`, { bytes }))
    const result = await open(first)
    assert.deepEqual(result.sha256, parts.map(sha256))
    const [model, ...rest] = await list()
    assert.deepEqual(rest, [])
    assert.equal(model.url, first)
    assert.equal(model.bytes, 1_060_921)
    assert.equal(model.isComplete, true)
  })
})

describe('a download fails', () => {
  it('with what the server answered', async () => {
    await checkFailure(
      `${server.origin}/missing.gguf`,
      'DOWNLOAD_FAILED',
      /missing\.gguf: the server answered 404/,
    )
    assert.deepEqual(await list(), [])
  })

  it('when nobody answers, after some tries', async () => {
    await checkFailure('http://127.0.0.1:1/x.gguf', 'DOWNLOAD_FAILED', /127\.0\.0\.1:1/)
  })

  it('when the connection is always cut', async () => {
    await checkFailure(serve('/hopeless.gguf', { dropAfter: 0 }), 'DOWNLOAD_FAILED', /hopeless/)
    await checkFailure(
      serve('/hopeless-whole.gguf', { ranges: false, dropAfter: 300_000 }),
      'DOWNLOAD_FAILED',
      /hopeless-whole/,
    )
  })

  it('when it has another checksum than the server says, and keeps nothing of it', async () => {
    const headers = { 'x-linked-etag': `"${sha256(content)}"` }
    await check(serve('/right.gguf', { headers }))
    const url = serve('/wrong.gguf', { headers, bytes: randomGguf(300_000) })
    await checkFailure(url, 'DOWNLOAD_FAILED', /SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}/)
    assert.deepEqual(
      (await list()).map(({ url }) => url),
      [`${server.origin}/right.gguf`],
    )
  })

  it('for names of files that a browser cannot open', async () => {
    await checkFailure('file:///model.gguf', 'INVALID_ARGUMENT', /http\(s\) address/)
  })
})

describe('a hub', () => {
  const hubEndpoint = () => server.origin

  function serveHub(files) {
    const listing = files.map(({ path, bytes, oid }) => ({
      path,
      size: bytes.length,
      lfs: { oid: oid ?? sha256(bytes), size: bytes.length },
    }))
    server.files.set('/api/models/owner/repo/tree/main', {
      bytes: Buffer.from(JSON.stringify(listing)),
    })
    for (const { path, bytes } of files) serve(`/owner/repo/resolve/main/${path}`, { bytes })
  }

  it('is asked for the file by repository alone, and for its checksum', async () => {
    serveHub([
      { path: 'tiny-Q2_K.gguf', bytes: randomBytes(10) },
      { path: 'tiny-Q4_K_M.gguf', bytes: content },
    ])
    await check('hf:owner/repo', content, { hubEndpoint: hubEndpoint() })
    serveHub([{ path: 'tiny-Q8_0.gguf', bytes: content, oid: '0'.repeat(64) }])
    const options = { hubEndpoint: hubEndpoint() }
    await checkFailure('hf:owner/repo', 'DOWNLOAD_FAILED', /SHA-256.*expected 0000/, options)
  })

  it('must have what its list says', async () => {
    serveHub([{ path: 'tiny.gguf', bytes: content }])
    serve('/owner/repo/resolve/main/tiny.gguf', { bytes: content.subarray(1) })
    const options = { hubEndpoint: hubEndpoint() }
    const sizes = /has 1060920 bytes, the hub's list says 1060921/
    await checkFailure('hf:owner/repo', 'DOWNLOAD_FAILED', sizes, options)
  })

  it('need not be there for a model that is kept', async () => {
    serveHub([{ path: 'tiny.gguf', bytes: content }])
    const name = 'hf:owner/repo/tiny.gguf'
    await check(name, content, { hubEndpoint: hubEndpoint() })
    await context.setOffline(true)
    await check(name, content, { hubEndpoint: hubEndpoint() })
    await check('hf:owner/repo', content, { hubEndpoint: hubEndpoint() })
  })

  it('is sent its token, and nobody else is', async () => {
    serveHub([{ path: 'tiny.gguf', bytes: content }])
    const options = { hubEndpoint: hubEndpoint(), hubToken: 'secret' }
    await check('hf:owner/repo', content, options)
    for (const { headers } of server.requests) assert.equal(headers.authorization, 'Bearer secret')
    await check(serve('/elsewhere.gguf', {}, other), content, options)
    for (const { headers } of other.requests) assert.equal(headers.authorization, undefined)
  })
})

describe('two loads of one address', () => {
  it('in one worker download it once', async () => {
    const url = serve('/twice.gguf', { delayMs: 5 })
    await Promise.all([check(url), check(url)])
    assert.equal(server.sentBytes('/twice.gguf'), content.length)
  })

  it('in two tabs download it once, and both see how far it is', async () => {
    const url = serve('/tabs.gguf', { delayMs: 20 })
    const second = await openSourcesPage(context, server)
    const first = check(url)
    await reached(0.1)
    const result = await second.call('open', url, { policy })
    await first
    assert.deepEqual(result.sha256, [sha256(content)])
    assert.equal(server.sentBytes('/tabs.gguf'), content.length)
    const seen = await second.page.evaluate(() => window.progress)
    assert.ok(seen.some(({ fraction }) => fraction > 0 && fraction < 1))
  })

  it('in two tabs: when the first is closed, the second goes on', async () => {
    const url = serve('/closed.gguf', { delayMs: 20 })
    const second = await openSourcesPage(context, server)
    open(url).catch(() => {})
    await reached(0.3)
    const opening = second.call('open', url, { policy })
    await tab.close()
    assert.deepEqual((await opening).sha256, [sha256(content)])
    assert.ok(server.sentBytes('/closed.gguf') < 1.6 * content.length)
  })
})

describe('a browser that stores on the disk', () => {
  let folder

  beforeEach(async () => {
    await context.close()
    folder = mkdtempSync(join(tmpdir(), 'realm-profile-'))
    await start()
  })
  afterEach(async () => {
    await context.close()
    rmSync(folder, { recursive: true, force: true })
  })

  async function start() {
    context = await launchWithProfile(folder)
    tab = await openSourcesPage(context, server)
    server.requests.length = 0
  }

  it('goes on with a download when it is started again', async () => {
    const url = serve('/restarted.gguf', { delayMs: 25 })
    open(url).catch(() => {})
    await reached(0.4)
    await context.close()
    serve('/restarted.gguf')
    await start()
    await check(url)
    assert.ok(server.sentBytes('/restarted.gguf') < 0.8 * content.length)
  })

  it('says before a download that there is no room, what is needed and what there is', async () => {
    const bytes = randomGguf(4 * MIB)
    const session = await context.newCDPSession(tab.page)
    const quota = { origin: server.origin, quotaSize: 3 * MIB }
    await session.send('Storage.overrideQuotaForOrigin', quota)
    const found = /4194304 bytes are needed.*\d+ of \d+ bytes are in use/
    await checkFailure(serve('/large.gguf', { bytes }), 'STORAGE_FULL', found)
    assert.deepEqual(
      server.requests.map(({ range }) => range),
      ['bytes=0-65535'],
    )
    const whole = serve('/large-whole.gguf', { bytes, ranges: false })
    await checkFailure(whole, 'STORAGE_FULL', /are needed/)
    assert.ok(server.sentBytes('/large-whole.gguf') > MIB)
    assert.deepEqual(await list(), [])
    const small = randomGguf(300_000)
    await check(serve('/small.gguf', { bytes: small }), small)
  })
})

describe('without a private file system', () => {
  it('a download is kept in memory, and that is said', async () => {
    await tab.call('withoutFileSystem')
    const url = serve('/private.gguf', { headers: { 'x-linked-etag': sha256(content) } })
    await check(url)
    assert.match((await log())[0].message, /not kept/)
    await check(serve('/private-whole.gguf', { ranges: false }))
    assert.deepEqual(await tab.call('list'), [])
  })
})

describe('the cache', () => {
  const evaluate = (expression, argument) => tab.page.evaluate(expression, argument)

  it('lists models, the one used last first, and adds up their sizes', async () => {
    const began = Date.now()
    const small = randomGguf(1000)
    const urls = [serve('/a.gguf'), serve('/b.gguf', { bytes: small })]
    for (const url of urls) await check(url, url === urls[0] ? content : small)
    const models = await list()
    assert.deepEqual(
      models.map(({ lastUsed, ...model }) => model),
      [
        { url: urls[1], bytes: 1000, totalBytes: 1000, isComplete: true },
        { url: urls[0], bytes: content.length, totalBytes: content.length, isComplete: true },
      ],
    )
    for (const { lastUsed } of models) assert.ok(Date.parse(lastUsed) >= began)
    assert.equal(await evaluate(() => cache.size()), content.length + 1000)
  })

  it('deletes what is not in use', async () => {
    const [kept, gone] = [serve('/kept.gguf'), serve('/gone.gguf')]
    await check(kept)
    const { id } = await check(gone)
    const remove = (url) => evaluate((url) => cache.delete(url).catch(({ code }) => code), url)
    assert.equal(await remove(gone), 'IN_USE')
    await tab.call('close', id)
    assert.equal(await remove(gone), true)
    assert.equal(await remove(gone), false)
    assert.deepEqual(
      (await list()).map(({ url }) => url),
      [kept],
    )
    server.requests.length = 0
    await check(gone)
    assert.equal(server.sentBytes('/gone.gguf'), content.length)
  })

  it('does not delete what is being downloaded', async () => {
    const url = serve('/under-way.gguf', { delayMs: 20 })
    const opening = check(url)
    await reached(0.2)
    assert.equal(
      await evaluate((url) => cache.delete(url).catch(({ code }) => code), url),
      'IN_USE',
    )
    await opening
  })

  it('is emptied', async () => {
    for (const url of [serve('/a.gguf'), serve('/b.gguf')])
      await tab.call('close', (await check(url)).id)
    assert.equal((await list()).length, 2)
    await evaluate(() => cache.clear())
    assert.deepEqual(await list(), [])
    assert.equal(await evaluate(() => cache.size()), 0)
  })

  it('knows how much room there is', async () => {
    const { quota, usage, persisted } = await evaluate(() => cache.quota())
    assert.ok(quota > usage && usage >= 0)
    assert.equal(typeof persisted, 'boolean')
    assert.equal(typeof (await evaluate(() => cache.persist())), 'boolean')
  })
})
