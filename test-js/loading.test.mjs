/**
 * How loads end: with what their callers did, with their realm, and always with a RealmError.
 */

import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Realm } from '@realm-ai/realm'
import { nodeNetwork } from '../dist/node/network.js'
import { serveFiles } from './support/file-server.mjs'
import { bundledModel } from './support/models.mjs'

const bytes = readFileSync(bundledModel)

let folder
let server
let realm

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'realm-loading-'))
  server = await serveFiles()
  server.files.set('/m.gguf', { bytes, etag: '"a"' })
  // Half of it comes, and then never anything more.
  server.files.set('/held.gguf', { bytes, etag: '"a"', hold: new Promise(() => {}) })
  realm = await create()
})
after(async () => {
  await realm.dispose()
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

const create = (options) =>
  Realm.create({ backend: 'cpu', cacheDirectory: join(folder, 'cache'), ...options })
const url = (path) => server.origin + path
const isRealmError = (code, message) => ({ name: 'RealmError', code, message })

describe('a realm that is disposed of', () => {
  it('ends the loads under way, and has fetched nothing more when that resolves', async () => {
    const own = await create()
    const loads = ['/held.gguf', '/held.gguf?again'].map((path) => own.load(url(path)))
    loads.push(own.load(new ReadableStream()))
    loads.push(own.load({ getFile: () => new Promise(() => {}) }))
    const ended = loads.map((load) => assert.rejects(load, isRealmError('DISPOSED', /realm/)))
    while (server.sentBytes('/held.gguf') < 100_000) await sleep(10)
    await own.dispose()
    const requests = server.requests.length
    await Promise.all(ended)
    await assert.rejects(own.load(url('/m.gguf')), isRealmError('DISPOSED', /realm/))
    await sleep(100)
    assert.equal(server.requests.length, requests)
  })

  it('frees models whose loads had just ended', async () => {
    const own = await create()
    const load = own.load(bundledModel, { onProgress: () => {} })
    const ended = load.then(
      (model) => assert.throws(() => model.tokenize('a'), isRealmError('DISPOSED', /disposed/)),
      (error) => assert.equal(error.code, 'DISPOSED'),
    )
    await own.dispose()
    await ended
  })

  it('ends the adapters that its models load', async () => {
    const own = await create()
    const model = await own.load(bundledModel)
    const loading = model.loadAdapter(url('/held.gguf'))
    const ended = assert.rejects(loading, isRealmError('DISPOSED', /model/))
    await own.dispose()
    await ended
  })
})

describe('loads into a memory limit', () => {
  it('that run at once take what is there and no more', async () => {
    const options = { layout: 'mapped' }
    const { total } = await Realm.estimate(bundledModel, { ...options, backend: 'cpu' })
    const own = await create({ memoryLimit: 2 * total + 1 })
    const loads = Array.from({ length: 5 }, () => own.load(bundledModel, options))
    const outcomes = await Promise.allSettled(loads)
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 2)
    for (const { reason } of outcomes)
      assert.ok(reason === undefined || reason.code === 'OUT_OF_MEMORY', reason)
    await own.dispose()
  })

  it('can be stopped while they wait for their turn', async () => {
    const own = await create({ memoryLimit: 2 ** 40 })
    const controller = new AbortController()
    const first = own.load(bundledModel)
    const second = own.load(bundledModel, { signal: controller.signal })
    const third = own.load(bundledModel)
    controller.abort('no more')
    await assert.rejects(second, { ...isRealmError('ABORTED', /signal/), cause: 'no more' })
    await Promise.all([first, third])
    await own.dispose()
  })
})

describe('a load that is stopped', () => {
  it('says why: the reason of the signal is the cause', async () => {
    const reason = new Error('my reason')
    for (const source of [url('/held.gguf'), bundledModel, new ReadableStream()]) {
      const controller = new AbortController()
      const load = realm.load(source, { signal: controller.signal })
      controller.abort(reason)
      await assert.rejects(load, { ...isRealmError('ABORTED', /signal/), cause: reason })
    }
  })

  it('by a callback that throws has what it threw as its cause', async () => {
    const defect = new TypeError('no such element')
    const onProgress = () => {
      throw defect
    }
    const expected = {
      ...isRealmError('ABORTED', /stopped, since onProgress threw: no such element/),
      cause: defect,
    }
    const model = await realm.load(bundledModel)
    await assert.rejects(realm.load(bundledModel, { onProgress }), expected)
    await assert.rejects(realm.load(url('/m.gguf'), { onProgress }), expected)
    await assert.rejects(model.loadAdapter(url('/m.gguf'), { onProgress }), expected)
    const options = { onProgress, cacheDirectory: join(folder, 'cache'), backend: 'cpu' }
    await assert.rejects(Realm.estimate(url('/m.gguf'), options), expected)
    await model.dispose()
  })
})

describe('a source that is none', () => {
  /** Rejected alike by everything that takes a source. */
  async function refused(source, code, message) {
    const model = await realm.load(bundledModel)
    for (const load of [
      () => realm.load(source()),
      () => model.loadAdapter(source()),
      () => Realm.estimate(source(), { backend: 'cpu' }),
    ])
      await assert.rejects(load, isRealmError(code, message))
    await model.dispose()
  }

  it('is named: addresses', async () => {
    for (const address of ['http://', 'https://a b/', 'http:x y', 'file://host/x', 'file:///a%2Fb'])
      await refused(() => address, 'INVALID_ARGUMENT', /model source/)
    await refused(() => 'file:///%zz', 'INVALID_ARGUMENT', /URI malformed/)
  })

  it('is named: schemes', async () => {
    const addresses = {
      ftp: 'ftp://host/m.gguf',
      s3: 's3://bucket/m.gguf',
      data: 'data:,x',
      blob: 'blob:nodedata:1',
    }
    for (const [scheme, address] of Object.entries(addresses)) {
      await refused(() => address, 'INVALID_ARGUMENT', new RegExp(`${scheme}: is no scheme`))
      await refused(() => new URL(address), 'INVALID_ARGUMENT', new RegExp(`${scheme}: is no`))
    }
    const path = join(folder, 'dir:m.gguf')
    copyFileSync(bundledModel, path)
    const { name } = (await realm.load(path)).info
    const here = process.cwd()
    process.chdir(folder)
    try {
      assert.equal((await realm.load('dir:m.gguf')).info.name, name)
    } finally {
      process.chdir(here)
    }
  })

  it('is named: streams and handles', async () => {
    const locked = () => {
      const stream = new ReadableStream()
      stream.getReader()
      return stream
    }
    await refused(locked, 'INVALID_ARGUMENT', /model source: .*locked/)
    const failing = () => ({
      getFile() {
        throw new Error('no permission')
      },
    })
    await refused(failing, 'MODEL_UNREADABLE', /the file handle failed: no permission/)
    await refused(() => ({ getFile: async () => 7 }), 'INVALID_ARGUMENT', /model source.*7/)
  })

  it('is named: hubs that are none', async () => {
    await assert.rejects(
      Realm.create({ hubEndpoint: 'x' }),
      isRealmError('INVALID_ARGUMENT', /hubEndpoint: expected an http\(s\) address, got "x"/),
    )
    process.env.HF_ENDPOINT = 'foo'
    try {
      await refused(() => 'hf:owner/repo', 'INVALID_ARGUMENT', /HF_ENDPOINT.*"foo"/)
      await assert.rejects(
        realm.cache.delete('hf:owner/repo'),
        isRealmError('INVALID_ARGUMENT', /HF_ENDPOINT/),
      )
    } finally {
      delete process.env.HF_ENDPOINT
    }
  })
})

describe('a cached model that is loaded', () => {
  it('cannot be deleted before it is disposed of', async () => {
    const model = await realm.load(url('/m.gguf'))
    await assert.rejects(realm.cache.delete(url('/m.gguf')), isRealmError('IN_USE', /m\.gguf/))
    await model.dispose()
    assert.equal(await realm.cache.delete(url('/m.gguf')), true)
  })

  it('is let go where it could not be loaded, or was only asked about', async () => {
    const wrong = Buffer.from(bytes)
    wrong.write('general.architecturE', wrong.indexOf('general.architecture'))
    server.files.set('/wrong.gguf', { bytes: wrong })
    await assert.rejects(realm.load(url('/wrong.gguf')), { name: 'RealmError' })
    assert.equal(await realm.cache.delete(url('/wrong.gguf')), true)
    await Realm.estimate(url('/m.gguf'), { cacheDirectory: join(folder, 'cache'), backend: 'cpu' })
    assert.equal(await realm.cache.delete(url('/m.gguf')), true)
  })
})

describe('a redirection from https to http', () => {
  it('is not followed', async (t) => {
    t.mock.method(globalThis, 'fetch', async () => {
      const headers = { location: 'http://other/m.gguf?sig=secret' }
      return new Response(null, { status: 302, headers })
    })
    await assert.rejects(
      nodeNetwork.fetch(new URL('https://host/m.gguf?sig=secret'), {}),
      isRealmError('DOWNLOAD_FAILED', /host.*sig=\*\*\*: redirects from https to http.*other/),
    )
    assert.equal(globalThis.fetch.mock.callCount(), 1)
    await assert.rejects(nodeNetwork.fetch(new URL('http://host/m.gguf'), {}), /redirections/)
  })
})
