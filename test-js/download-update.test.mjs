/**
 * A stored model while its server changes, refuses, lies or is gone: nothing that was whole is ever
 * lost, and nobody waits for it.
 */

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { content, held, impatient, policy, sha256, useDownloads } from './support/downloads.mjs'
import { randomGguf } from './support/gguf.mjs'

const downloads = useDownloads()
const { serve, fetchModel, openModel, check, fails } = downloads
const changed = randomGguf(900_000)

const asked = () => downloads.server.requests.map(({ method, path }) => `${method} ${path}`)
const forget = () => {
  downloads.server.requests.length = 0
}
const dataFiles = (path) => readdirSync(dirname(path)).filter((name) => !name.endsWith('.json'))

describe('a stored model', () => {
  it('gives way to another version of the server, beside who reads the old one', async () => {
    const url = serve('/new.gguf')
    const first = await openModel(url)
    serve('/new.gguf', { bytes: changed, etag: '"v2"' })
    const second = await openModel(url)
    assert.deepEqual(readFileSync(first.source), content)
    assert.deepEqual(readFileSync(second.source), changed)
    assert.deepEqual(dataFiles(second.source).toSorted(), ['2-new.gguf', 'new.gguf'])
    assert.deepEqual(await downloads.cache.delete(url).catch(({ code }) => code), 'IN_USE')
    first.release()
    second.release()
    assert.deepEqual(dataFiles(await check(url, changed)), ['2-new.gguf'])
  })

  it('leaves nothing of itself when another version has taken its place', async () => {
    const url = serve('/new.gguf')
    const reader = await open(await check(url))
    for (const [i, bytes] of [changed, content, changed].entries()) {
      serve('/new.gguf', { bytes, etag: `"v${i + 2}"` })
      const path = await check(url, bytes)
      assert.deepEqual(dataFiles(path), [`${i + 2}-new.gguf`])
      assert.equal((await downloads.cache.list()).length, 1)
      forget()
      await check(url, bytes)
      assert.deepEqual(asked(), ['HEAD /new.gguf'])
    }
    assert.deepEqual(await reader.readFile(), content)
    await reader.close()
  })

  for (const status of [401, 403, 404, 410, 429, 500, 503])
    it(`is used while the server answers ${status}`, async () => {
      const url = serve('/refused.gguf')
      await check(url)
      serve('/refused.gguf', { status })
      await check(url)
      assert.match(downloads.log[0], new RegExp(`refused.*${status}.*using the stored file`))
    })

  const page = Buffer.from('<html>log in</html>')
  const lies = {
    'a page of a login': { bytes: page },
    'a page of a login as one stream': { bytes: page, ranges: false },
    'a page of a login without a length': { bytes: page, ranges: false, chunked: true },
    'a file that ends early': { bytes: changed.subarray(0, 500_000) },
    'a stream that ends early': { bytes: changed, ranges: false, chunked: true, endAfter: 700_000 },
    'a file with another checksum than it says': {
      bytes: changed,
      headers: { 'x-linked-etag': `"${sha256(content)}"` },
    },
    'a connection that is always cut': { bytes: changed, dropAfter: 0 },
    'a file that falls silent': { bytes: changed, ranges: false, silent: true },
  }
  for (const [what, file] of Object.entries(lies))
    it(`stays when what is to take its place is ${what}`, async () => {
      const url = serve('/kept.gguf')
      const path = await check(url)
      serve('/kept.gguf', { etag: '"v2"', ...file })
      const again = await check(url, content, { policy: impatient })
      assert.equal(again, path)
      assert.match(downloads.log.at(-1), /kept\.gguf: .*using the stored file/)
      downloads.server.files.delete('/kept.gguf')
      await check(url)
      const [model] = await downloads.cache.list()
      assert.equal(model.isComplete, true)
      assert.equal(model.bytes, content.length)
      // And it can still be replaced.
      serve('/kept.gguf', { bytes: changed, etag: '"v3"' })
      await check(url, changed)
    })

  it('stays while its replacement is stopped half-way, which then goes on', async () => {
    const url = serve('/stopped.gguf')
    const path = await check(url)
    const { promise: hold } = held()
    serve('/stopped.gguf', { bytes: changed, etag: '"v2"', hold })
    const controller = new AbortController()
    const loading = fetchModel(url, { signal: controller.signal })
    const ended = assert.rejects(loading, { code: 'ABORTED' })
    const next = join(dirname(path), '1.next.json')
    const storedPieces = () => {
      try {
        return JSON.parse(readFileSync(next, 'utf8')).leadingPieces
      } catch {
        return 0
      }
    }
    while (storedPieces() < 2) await sleep(10)
    controller.abort()
    await ended
    serve('/stopped.gguf', { status: 503 })
    await check(url)
    serve('/stopped.gguf', { bytes: changed, etag: '"v2"' })
    forget()
    await check(url, changed)
    assert.ok(downloads.server.sentBytes('/stopped.gguf') <= changed.length - 2 * policy.pieceBytes)
  })

  it('is put in its place where that was broken off', async () => {
    const url = serve('/broken-off.gguf')
    const folder = dirname(await check(url))
    const [journal, old] = ['1.json', 'broken-off.gguf'].map((name) => join(folder, name))
    const before = readFileSync(journal)
    serve('/broken-off.gguf', { bytes: changed, etag: '"v2"' })
    await check(url, changed)
    // As it was before its journal took the old one's place.
    renameSync(journal, join(folder, '1.next.json'))
    writeFileSync(journal, before)
    writeFileSync(old, content)
    forget()
    await check(url, changed, { revalidate: Number.POSITIVE_INFINITY })
    assert.deepEqual(asked(), [])
    assert.deepEqual(readdirSync(folder).toSorted(), ['1.json', '2-broken-off.gguf'])
  })
})

describe('a stored model of several parts', () => {
  const parts = [randomGguf(400_000), randomGguf(300_000), randomGguf(200_000)]
  const nameOf = (i) => `/m-0000${i + 1}-of-00003.gguf`
  const serveAll = (all = parts, more = {}) =>
    all.map((bytes, i) => serve(nameOf(i), { bytes, etag: `"${sha256(bytes)}"`, ...more }))[0]
  const readAll = (path) =>
    [1, 2, 3].map((part) => readFileSync(path.replace('00001-of', `0000${part}-of`)))

  it('is replaced as a whole, and only what has changed is fetched', async () => {
    const url = serveAll()
    await fetchModel(url)
    const newer = [parts[0], randomGguf(310_000), parts[2]]
    serveAll(newer)
    forget()
    const path = await fetchModel(url)
    assert.deepEqual(readAll(path), newer)
    assert.equal(downloads.server.sentBytes(nameOf(0)), 0)
    assert.equal(dataFiles(path).length, 3)
    const [model] = await downloads.cache.list()
    assert.equal(model.bytes, 400_000 + 310_000 + 200_000)
  })

  it('is never of two versions: where a part of the new one is missing, all of the old one stays', async () => {
    const url = serveAll()
    await fetchModel(url)
    const newer = parts.map(({ length }) => randomGguf(length + 32))
    serveAll(newer)
    serve(nameOf(2), { bytes: newer[2], etag: '"v2"', dropAfter: 0 })
    assert.deepEqual(readAll(await fetchModel(url)), parts)
    assert.match(downloads.log.at(-1), /using the stored file/)
    serve(nameOf(2), { bytes: newer[2], etag: '"v2"' })
    forget()
    assert.deepEqual(readAll(await fetchModel(url)), newer)
    assert.equal(downloads.server.sentBytes(nameOf(0)), 0)
  })
})

describe('whether a stored model is current', () => {
  it('is asked as often as the option says', async () => {
    const url = serve('/asked.gguf')
    await check(url)
    const times = async (revalidate) => {
      forget()
      await check(url, content, { revalidate })
      assert.deepEqual(downloads.log, [])
      return asked().length
    }
    assert.equal(await times(0), 1)
    assert.equal(await times(3_600_000), 0)
    assert.equal(await times(Number.POSITIVE_INFINITY), 0)
    const journalPath = join(dirname(await fetchModel(url)), '1.json')
    const journal = JSON.parse(readFileSync(journalPath, 'utf8'))
    const set = (confirmedAt) =>
      writeFileSync(journalPath, JSON.stringify({ ...journal, confirmedAt }))
    set(Date.now() - 3_700_000)
    assert.equal(await times(3_600_000), 1)
    assert.equal(await times(3_600_000), 0)
    // A clock that was set back.
    set(Date.now() + 3_600_000)
    assert.equal(await times(3_600_000), 1)
    set(Date.now() + 3_600_000)
    assert.equal(await times(Number.POSITIVE_INFINITY), 0)
  })

  it('a server that says nothing is not waited for', async () => {
    const parts = ['/s-00001-of-00002.gguf', '/s-00002-of-00002.gguf']
    const [url] = parts.map((path) => serve(path))
    await fetchModel(url)
    for (const path of parts) serve(path, { mute: true })
    // The tests' policy waits for two minutes.
    await check(url)
    assert.match(downloads.log[0], /no answer within 3 s; using the stored file/)
  })
})

describe('a model of a hub that is stored', () => {
  const commit = 'a'.repeat(40)
  const options = () => ({ hubEndpoint: downloads.server.origin })
  const listing = (revision) => `/api/models/owner/repo/tree/${revision}`
  const serveHub = (revision, more = {}) => {
    const bytes = Buffer.from(JSON.stringify([{ path: 'm.gguf', size: content.length }]))
    serve(listing(revision), { bytes, ...more })
    serve(`/owner/repo/resolve/${revision}/m.gguf`, more)
  }

  it('is not asked about where the revision is a commit', async () => {
    serveHub(commit)
    const name = `hf:owner/repo/m.gguf@${commit}`
    await check(name, content, options())
    forget()
    await check(name, content, options())
    await check(`hf:owner/repo@${commit}`, content, options())
    assert.deepEqual(asked(), [])
    await fails('hf:owner/repo/m.gguf@main', 'DOWNLOAD_FAILED', /404/, options())
  })

  it('is there at once where the option says never, and soon where the hub says nothing', async () => {
    serveHub('main')
    for (const name of ['hf:owner/repo', 'hf:owner/repo/m.gguf'])
      await check(name, content, options())
    assert.deepEqual(downloads.log, [])
    serveHub('main', { mute: true })
    forget()
    const never = { ...options(), revalidate: Number.POSITIVE_INFINITY }
    for (const name of ['hf:owner/repo', 'hf:owner/repo/m.gguf']) await check(name, content, never)
    assert.deepEqual(asked(), [])
    for (const answer of ['<html>log in</html>', '[]', '[{"path":"\\ud800.gguf"}]']) {
      serveHub('main', { status: 403 })
      serve(listing('main'), { bytes: Buffer.from(answer) })
      await check('hf:owner/repo', content, options())
    }
    serveHub('main', { mute: true })
    // The tests' policy waits for two minutes.
    await check('hf:owner/repo/m.gguf', content, options())
    assert.match(downloads.log[0], /no answer within 3 s; using the stored file/)
  })
})
