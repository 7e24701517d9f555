/**
 * Every kind of source loads the same model; networks fail in known ways.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, openAsBlob, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY } from './support/models.mjs'

const bytes = readFileSync(bundledModel)

let realm
let want
let server
let origin
let cacheDirectory
/** What the server saw. */
let requests
/** What it was shown. */
let authorizations = []

before(async () => {
  cacheDirectory = mkdtempSync(join(tmpdir(), 'realm-cache-'))
  realm = await Realm.create({ cacheDirectory })
  const model = await realm.load(bundledModel)
  want = (await model.generate('Once', { ...GREEDY, maxTokens: 5 })).text
  server = createServer(answer)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${server.address().port}`
  requests = []
})
after(async () => {
  await realm.dispose()
  server.closeAllConnections()
  server.close()
  rmSync(cacheDirectory, { recursive: true, force: true })
})

const LISTING = ['README.md', 'tiny-Q8_0.gguf', 'tiny-Q4_K_M.gguf', 'tiny-Q2_K.gguf']

/** A small web server and a small model hub in one. */
function answer(request, response) {
  const url = new URL(request.url, origin)
  requests.push(`${request.method} ${url.pathname}`)
  authorizations.push(request.headers.authorization)
  if (url.pathname === '/api/models/owner/repo/tree/main') {
    response.end(JSON.stringify(LISTING.map((path) => ({ type: 'file', path }))))
  } else if (url.pathname === '/api/models/owner/many/tree/main') {
    response.end(JSON.stringify([{ path: 'a.gguf' }, { path: 'b.gguf' }]))
  } else if (url.pathname === '/api/models/owner/none/tree/main') {
    response.end(JSON.stringify([{ path: 'README.md' }]))
  } else if (url.pathname === '/slow.gguf') {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 1000))
  } else if (/\.gguf$/.test(url.pathname) && !url.pathname.includes('missing')) {
    sendModel(response)
  } else {
    response.writeHead(404, 'Not Found').end()
  }
}

function sendModel(response) {
  response.writeHead(200, { 'content-length': bytes.length, etag: '"v1"' }).end(bytes)
}

async function check(source, options) {
  const model = await realm.load(source, options)
  assert.equal((await model.generate('Once', { ...GREEDY, maxTokens: 5 })).text, want)
  await model.dispose()
}

describe('a model is loaded from', () => {
  it('a path and a file: URL', async () => {
    await check(bundledModel)
    await check(pathToFileURL(bundledModel))
    await check(pathToFileURL(bundledModel).href)
  })

  it('bytes in every form', async () => {
    await check(bytes)
    await check(new Uint8Array(bytes))
    await check(new Uint8Array(bytes).buffer)
    await check([bytes])
  })

  it('a Blob, a File and a file handle', async () => {
    await check(new Blob([bytes]))
    await check(await openAsBlob(bundledModel))
    await check({ getFile: async () => new Blob([bytes]) })
  })

  it('a stream', async () => {
    await check(new Blob([bytes]).stream())
    await check(
      new ReadableStream({
        start(controller) {
          for (let at = 0; at < bytes.length; at += 100_000)
            controller.enqueue(bytes.subarray(at, at + 100_000))
          controller.close()
        },
      }),
    )
  })

  it('bytes that may change afterwards', async () => {
    const copy = Uint8Array.from(bytes)
    const model = await realm.load(copy)
    copy.fill(0)
    assert.equal((await model.generate('Once', { ...GREEDY, maxTokens: 5 })).text, want)
    await model.dispose()
  })

  it('a server, once: the second time it only asks for changes', async () => {
    const progress = []
    await check(`${origin}/tiny.gguf`, { onProgress: (event) => progress.push(event) })
    const downloads = progress.filter(({ stage }) => stage === 'download')
    assert.ok(downloads.length > 0)
    assert.deepEqual(downloads.at(-1), {
      stage: 'download',
      fraction: 1,
      receivedBytes: bytes.length,
      totalBytes: bytes.length,
    })
    assert.equal(progress.at(-1).stage, 'load')
    assert.equal(progress.at(-1).fraction, 1)
    requests = []
    await check(new URL(`${origin}/tiny.gguf`))
    assert.deepEqual(requests, ['HEAD /tiny.gguf'])
  })

  it('what is kept, while the server cannot be reached', async () => {
    const other = createServer((_request, response) => sendModel(response))
    await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${other.address().port}/kept.gguf`
    await check(url)
    other.closeAllConnections()
    await new Promise((resolve) => other.close(resolve))
    await check(url)
  })

  it('a hub, by repository, file and revision', async () => {
    process.env.HF_ENDPOINT = origin
    requests = []
    await check('hf:owner/repo')
    await check('hf:owner/repo/sub/tiny-Q8_0.gguf@v2')
    delete process.env.HF_ENDPOINT
    assert.deepEqual(requests, [
      'GET /api/models/owner/repo/tree/main',
      'GET /owner/repo/resolve/main/tiny-Q4_K_M.gguf',
      'GET /api/models/owner/repo/tree/v2',
      'GET /owner/repo/resolve/v2/sub/tiny-Q8_0.gguf',
    ])
  })
})

describe('the hub of the options', () => {
  it('is asked, and is sent its token, which nobody else is', async () => {
    const options = { cacheDirectory, hubEndpoint: origin, hubToken: 'secret' }
    const own = await Realm.create(options)
    authorizations = []
    await (await own.load('hf:owner/repo')).dispose()
    assert.deepEqual(authorizations, ['Bearer secret', 'Bearer secret'])
    const elsewhere = await Realm.create({ ...options, hubEndpoint: 'https://hub.example' })
    authorizations = []
    await (await elsewhere.load(`${origin}/tiny.gguf`)).dispose()
    assert.deepEqual(authorizations, [undefined])
    await Promise.all([own.dispose(), elsewhere.dispose()])
  })
})

describe('a download that fails', () => {
  const isFailure = (message) => ({ name: 'RealmError', code: 'DOWNLOAD_FAILED', message })

  it('names the address and what the server answered', async () => {
    await assert.rejects(
      realm.load(`${origin}/missing.gguf`),
      isFailure(/missing\.gguf: the server answered 404/),
    )
  })

  it('says when nobody answers', async () => {
    await assert.rejects(realm.load('http://127.0.0.1:1/x.gguf'), isFailure(/127\.0\.0\.1:1/))
  })

  it('lists the files of a hub to choose from', async () => {
    process.env.HF_ENDPOINT = origin
    await assert.rejects(realm.load('hf:owner/many'), isFailure(/a\.gguf, b\.gguf/))
    await assert.rejects(realm.load('hf:owner/none'), isFailure(/no \.gguf/))
    await assert.rejects(realm.load('hf:nonsense'), { code: 'INVALID_ARGUMENT' })
    delete process.env.HF_ENDPOINT
  })

  it('is stopped by its signal', async () => {
    const controller = new AbortController()
    const loading = realm.load(`${origin}/slow.gguf`, {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await assert.rejects(loading, { name: 'RealmError', code: 'ABORTED' })
  })

  it('is stopped by its signal where a stream says nothing', async () => {
    const controller = new AbortController()
    let cancelled = false
    const silent = new ReadableStream({
      cancel() {
        cancelled = true
      },
    })
    const loading = realm.load(silent, { signal: controller.signal })
    setImmediate(() => controller.abort())
    await assert.rejects(loading, { name: 'RealmError', code: 'ABORTED' })
    assert.ok(cancelled)
  })

  it('says when a stream fails or holds no bytes', async () => {
    const failing = new ReadableStream({
      pull(controller) {
        controller.error(new Error('the disk is gone'))
      },
    })
    await assert.rejects(realm.load(failing), {
      code: 'MODEL_UNREADABLE',
      message: /the disk is gone/,
    })
    const wrong = new ReadableStream({
      start(controller) {
        controller.enqueue('text')
        controller.close()
      },
    })
    await assert.rejects(realm.load(wrong), { code: 'INVALID_ARGUMENT', message: /Uint8Array/ })
  })
})

describe('the cache of downloads', () => {
  before(async () => {
    await realm.cache.clear()
    process.env.HF_ENDPOINT = origin
    await check('hf:owner/repo')
    await check(`${origin}/tiny.gguf`)
  })
  after(() => {
    delete process.env.HF_ENDPOINT
  })

  const urls = async () => (await realm.cache.list()).map(({ url }) => url)

  it('lists models, the one used last first, and adds up their sizes', async () => {
    const [first, second] = await realm.cache.list()
    const { lastUsed, ...model } = first
    assert.deepEqual(model, {
      url: `${origin}/tiny.gguf`,
      bytes: bytes.length,
      totalBytes: bytes.length,
      isComplete: true,
    })
    assert.ok(lastUsed >= second.lastUsed)
    assert.equal(await realm.cache.size(), 2 * bytes.length)
    await check('hf:owner/repo')
    assert.equal((await urls()).at(-1), `${origin}/tiny.gguf`)
  })

  it('deletes by address and by name', async () => {
    assert.equal(await realm.cache.delete('hf:owner/other'), false)
    assert.equal(await realm.cache.delete('hf:owner/repo/tiny-Q8_0.gguf'), false)
    assert.equal(await realm.cache.delete('hf:owner/repo'), true)
    assert.deepEqual(await urls(), [`${origin}/tiny.gguf`])
    assert.equal(await realm.cache.delete(new URL(`${origin}/tiny.gguf`)), true)
    assert.deepEqual(await urls(), [])
    await assert.rejects(realm.cache.delete('hf:nonsense'), { code: 'INVALID_ARGUMENT' })
  })

  it('says how much room the disk has, and keeps everything', async () => {
    const { usage, quota, persisted } = await realm.cache.quota()
    assert.ok(usage > 0 && usage < quota)
    assert.equal(persisted, true)
    assert.equal(await realm.cache.persist(), true)
  })

  it('is by default that of the environment', async () => {
    process.env.REALM_CACHE = cacheDirectory
    await check(`${origin}/tiny.gguf`)
    assert.deepEqual(await Realm.cache.list(), await realm.cache.list())
    delete process.env.REALM_CACHE
  })
})
