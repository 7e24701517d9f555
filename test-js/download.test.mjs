/**
 * Downloads in Node survive whatever servers, disks and users do to them: against real servers
 * that misbehave, in processes that are killed.
 */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { diskCache } from '../dist/node/disk-cache.js'
import { DiskStorage } from '../dist/node/disk-storage.js'
import { startDownload } from './support/download-process.mjs'
import { content, held, impatient, policy, sha256, useDownloads } from './support/downloads.mjs'
import { randomGguf } from './support/gguf.mjs'

const downloads = useDownloads()
const { serve, fetchModel, openModel, check, fails, stored, underWay } = downloads

describe('a download', () => {
  it('asks for ranges, several at once, and reports how far it is', async () => {
    const path = await check(serve('/plain.gguf'))
    assert.equal(basename(path), 'plain.gguf')
    const ranges = downloads.server.requests.map(({ range }) => range)
    assert.equal(new Set(ranges).size, Math.ceil(content.length / policy.pieceBytes))
    assert.equal(ranges[0], 'bytes=0-65535')
    assert.deepEqual(downloads.progress.at(-1), {
      stage: 'download',
      fraction: 1,
      receivedBytes: content.length,
      totalBytes: content.length,
    })
    const fractions = downloads.progress.map(({ fraction }) => fraction)
    assert.deepEqual(
      fractions,
      fractions.toSorted((a, b) => a - b),
    )
  })

  it('is kept: the second time the server is only asked whether it has another', async () => {
    const url = serve('/kept.gguf')
    await check(url)
    downloads.server.requests.length = 0
    await check(url)
    assert.deepEqual(
      downloads.server.requests.map(({ method }) => method),
      ['HEAD'],
    )
  })

  it('is fetched anew where what is kept cannot be relied on', async () => {
    const url = serve('/tampered.gguf')
    const path = await check(url)
    const journalPath = join(dirname(path), '1.json')
    const journal = JSON.parse(readFileSync(journalPath, 'utf8'))
    const tampered = [
      '',
      'null',
      '{"format":1}',
      ...['../../elsewhere', '..', '.hidden', '1.json'].map((file) =>
        JSON.stringify({ ...journal, file }),
      ),
      JSON.stringify({ ...journal, isComplete: false, pieceBytes: 0 }),
      JSON.stringify({ ...journal, isComplete: false, laterPieces: [1e300] }),
      JSON.stringify({ ...journal, version: { ...journal.version, size: 5 } }),
    ]
    for (const text of tampered) {
      writeFileSync(journalPath, text)
      await check(url)
    }
  })

  it('is fetched anew where an older release kept a file that was cut off', async () => {
    const url = serve('/cut-off.gguf')
    const path = await check(url)
    const journalPath = join(dirname(path), '1.json')
    const { isChecked, version, ...journal } = JSON.parse(readFileSync(journalPath, 'utf8'))
    assert.equal(isChecked, true)
    writeFileSync(path, content.subarray(0, 1_000_000))
    const kept = { ...journal, version: { size: 1_000_000, etag: null, lastModified: null } }
    writeFileSync(journalPath, JSON.stringify(kept))
    await check(url)
  })

  it('has a name that any disk can have, whatever the address', async () => {
    const names = [
      `${'x'.repeat(400)}-00001-of-00001.gguf`,
      '%2e%2e%2f..',
      'a b:c*.gguf',
      '1.json',
      '1.json.part',
      'M.GGUF',
    ]
    for (const name of names) {
      const path = await check(serve(`/names/${name.replace(/ /g, '%20')}`))
      assert.match(basename(path), /^[\w-][\w.-]{0,203}\.gguf$/i)
    }
    assert.match(await check(serve('/')), /model\.gguf$/)
  })

  it('starts anew when the file changes under way', async () => {
    const changed = randomGguf(900_000)
    const path = await underWay('/changing.gguf', () =>
      serve('/changing.gguf', { bytes: changed, etag: '"v2"' }),
    )
    assert.deepEqual(readFileSync(path), changed)
  })

  it('starts anew when the file has become so short that a range is gone', async () => {
    const changed = randomGguf(70_000)
    const path = await underWay('/shorter.gguf', () =>
      serve('/shorter.gguf', { bytes: changed, etag: undefined }),
    )
    assert.deepEqual(readFileSync(path), changed)
  })

  it('is given up when the file never stops changing', async () => {
    const url = serve('/restless.gguf')
    let version = 0
    Object.defineProperty(downloads.server.files.get('/restless.gguf'), 'etag', {
      get: () => {
        version += 1
        return `"${version}"`
      },
    })
    await fails(url, 'DOWNLOAD_FAILED', /keeps changing/)
  })

  it('survives connections that are cut, going on where they were', async () => {
    const url = serve('/cut.gguf', { dropAfter: 20_000, drops: 12 })
    await check(url)
    const starts = downloads.server.requests.map(({ range }) => Number(/\d+/.exec(range)[0]))
    const inside = starts.filter((start) => start % policy.pieceBytes !== 0)
    assert.ok(inside.length > 0, `requests from ${starts}`)
  })

  it('survives servers that are busy for a while', async () => {
    await check(serve('/busy.gguf', { status: 503, failures: 2, headers: { 'retry-after': '0' } }))
  })

  it('survives a server that falls silent', async () => {
    const url = serve('/silent.gguf', { silent: true })
    const onProgress = ({ receivedBytes }) => {
      if (receivedBytes > 0) serve('/silent.gguf')
    }
    await check(url, content, { policy: impatient, onProgress })
  })

  it('takes the whole file from a server without ranges', async () => {
    const url = serve('/whole.gguf', { ranges: false })
    await check(url)
    assert.equal(downloads.server.sentBytes('/whole.gguf'), content.length)
    await check(serve('/chunked.gguf', { ranges: false, chunked: true }))
    await check(serve('/whole-cut.gguf', { ranges: false, dropAfter: 300_000, drops: 2 }))
  })

  it('needs no answer to HEAD', async () => {
    const url = serve('/no-head.gguf', { head: false })
    await check(url)
    await check(url)
    assert.ok(downloads.server.sentBytes('/no-head.gguf') < content.length + 10)
  })

  it('stops when its signal says so, and goes on from there', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const loading = underWay('/stopped.gguf', () => controller.abort(), { signal })
    await assert.rejects(loading, { code: 'ABORTED' })
    const url = `${downloads.server.origin}/stopped.gguf`
    const [partial] = await downloads.cache.list()
    assert.equal(partial.isComplete, false)
    assert.equal(partial.totalBytes, content.length)
    serve('/stopped.gguf')
    downloads.server.requests.length = 0
    await check(url)
    assert.equal(downloads.server.sentBytes('/stopped.gguf'), content.length - partial.bytes)
    assert.ok(downloads.progress[0].receivedBytes >= partial.bytes)
  })

  it('of a split file brings all parts beside each other', async () => {
    const parts = [randomGguf(400_000), randomGguf(660_921)]
    const [first] = parts.map((bytes, i) => serve(`/m-0000${i + 1}-of-00002.gguf`, { bytes }))
    const path = await check(first, parts[0])
    assert.deepEqual(readFileSync(join(dirname(path), 'm-00002-of-00002.gguf')), parts[1])
    const [model, ...rest] = await downloads.cache.list()
    assert.deepEqual(rest, [])
    assert.equal(model.bytes, 1_060_921)
    assert.equal(model.isComplete, true)
  })
})

describe('a download from a server that says little', () => {
  it('is one stream where ranges may be of other bytes, as a weak ETag alone says', async () => {
    const ranges = (path) =>
      downloads.server.requests.filter((one) => one.path === path && one.range !== undefined)
    const weak = serve('/weak.gguf', { etag: 'W/"v1"' })
    await check(weak)
    assert.equal(ranges('/weak.gguf').length, 1)
    const headers = { 'last-modified': 'Mon, 02 Nov 2026 10:00:00 GMT' }
    await check(serve('/dated.gguf', { etag: 'W/"v1"', headers }))
    assert.ok(ranges('/dated.gguf').length > 10)
  })

  it('asks for ranges of the version that it began, where the server can tell', async () => {
    await check(serve('/strong.gguf'))
    const versions = downloads.server.requests.map(({ headers }) => headers['if-range'])
    assert.deepEqual(new Set(versions), new Set([undefined, '"v1"']))
    assert.equal(versions[0], undefined)
    await check(serve('/unable.gguf', { ifRange: false }))
  })
})

describe('a download that is told how', () => {
  const headers = { authorization: 'Basic x', 'x-key': 'secret' }

  it('sends headers to the server that is named, and to nobody else', async () => {
    const stored = serve('/stored', {}, downloads.other)
    const moved = { status: 302, headers: { location: stored } }
    const url = serve('/named.gguf', moved)
    await check({ url, headers })
    for (const { headers } of downloads.server.requests) {
      assert.equal(headers.authorization, 'Basic x')
      assert.equal(headers['x-key'], 'secret')
    }
    assert.ok(downloads.other.requests.length > 10)
    for (const { headers } of downloads.other.requests) {
      assert.equal(headers.authorization, undefined)
      assert.equal(headers['x-key'], undefined)
    }
  })

  it('is stored once under its key, whatever the signature of its address', async () => {
    const path = serve('/signed.gguf')
    const signed = (signature) => ({ url: `${path}?sig=${signature}`, cacheKey: 'my model' })
    const first = await check(signed('AAA'))
    const sent = downloads.server.sentBytes('/signed.gguf')
    assert.equal(await check(signed('BBB')), first)
    assert.equal(downloads.server.sentBytes('/signed.gguf'), sent)
    const [model, ...others] = await downloads.cache.list()
    assert.deepEqual(others, [])
    assert.equal(model.cacheKey, 'my model')
    assert.equal(model.url, `${path}?sig=***`)
    assert.equal(await downloads.cache.delete('my model'), true)
    assert.deepEqual(await downloads.cache.list(), [])
  })

  it('tells nobody what is secret in an address', async () => {
    const secret = 'tOpSeCrEt'
    const address = (path) => {
      const url = new URL(serve(path))
      url.search = `id=${secret}&X-Amz-Signature=${secret}`
      url.hash = secret
      return url
    }
    const url = address('/secret.gguf')
    const path = await check(url)
    downloads.server.files.set('/secret.gguf', { status: 500 })
    await check(url)
    const [warning] = downloads.log
    assert.match(warning, /500.*using the stored file/)
    const missing = address('/missing.gguf')
    downloads.server.files.delete('/missing.gguf')
    const error = await fetchModel(missing).catch((error) => error)
    assert.match(error.message, /id=\*\*\*&X-Amz-Signature=\*\*\*: the server answered 404/)
    const [{ url: listed }] = await downloads.cache.list()
    const journal = readFileSync(join(dirname(path), '1.json'), 'utf8')
    for (const text of [error.message, warning, listed, journal])
      assert.ok(!text.includes(secret), text)
    // What is listed can be deleted by its address, and by the whole one.
    assert.equal(await downloads.cache.delete(listed), true)
    serve('/secret.gguf')
    await check(url)
    assert.equal(await downloads.cache.delete(`${url}`), true)
  })

  it('refuses what is no such source', async () => {
    for (const source of [
      {},
      { url: 7 },
      { url: 'x.gguf' },
      { url: 'ftp://host/x' },
      { url: 'http://host/x', cacheKey: '' },
      { url: 'http://host/x', headers: { a: 1 } },
      { url: 'http://host/x', headers: { 'a b': 'c' } },
      { url: 'http://host/x', key: 'c' },
    ])
      await fails(source, 'INVALID_ARGUMENT', /model source/)
  })
})

describe('a download that fails', () => {
  it('is never a file that ends early, where nobody says how long it is', async () => {
    const endless = { ranges: false, chunked: true }
    const silent = serve('/silent.gguf', { ...endless, silent: true })
    await fails(silent, 'DOWNLOAD_FAILED', /fell silent/, { policy: { ...impatient, attempts: 2 } })
    const short = serve('/short.gguf', { ...endless, endAfter: content.length - 1 })
    await fails(short, 'DOWNLOAD_FAILED', /ends after 1060920 bytes, its header tells of 1060921/)
    // It might have been the connection.
    const asked = downloads.server.requests.filter(({ path }) => path === '/short.gguf')
    assert.equal(asked.length, policy.attempts)
    const header = serve('/header.gguf', { ...endless, endAfter: 50 })
    await fails(header, 'DOWNLOAD_FAILED', /ends after 50 bytes, within its header/)
    assert.deepEqual(await downloads.cache.list(), [])
  })

  it('is not kept when it is no model', async () => {
    const page = Buffer.from('<html>log in</html>')
    const message = /portal\.gguf: no GGUF file: it begins with "<htm"/
    for (const ranges of [true, false]) {
      await fails(serve('/portal.gguf', { bytes: page, ranges }), 'DOWNLOAD_FAILED', message)
    }
    assert.deepEqual(await downloads.cache.list(), [])
  })

  it('says what the server answered, and leaves nothing behind', async () => {
    const message = /missing\.gguf: the server answered 404/
    await fails(`${downloads.server.origin}/missing.gguf`, 'DOWNLOAD_FAILED', message)
    assert.deepEqual(await downloads.cache.list(), [])
    assert.deepEqual(readdirSync(downloads.cacheDirectory), ['locks'])
  })

  it('says why nobody answers, after some tries', async () => {
    await fails(
      'http://127.0.0.1:1/x.gguf',
      'DOWNLOAD_FAILED',
      /127\.0\.0\.1:1\/x\.gguf: .*(REFUSED|bad port)/,
    )
  })

  it('says when the connection is always cut', async () => {
    await fails(serve('/hopeless.gguf', { dropAfter: 0 }), 'DOWNLOAD_FAILED', /hopeless/)
    const whole = serve('/hopeless-whole.gguf', { ranges: false, dropAfter: 300_000 })
    await fails(whole, 'DOWNLOAD_FAILED', /hopeless-whole/)
    assert.deepEqual(await downloads.cache.list(), [])
  })

  it('keeps nothing of a file with another checksum than the server says', async () => {
    const headers = { 'x-linked-etag': `"${sha256(content)}"` }
    const right = serve('/right.gguf', { headers })
    await check(right)
    const wrong = serve('/wrong.gguf', { headers, bytes: randomGguf(300_000) })
    const message = /SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}/
    await fails(wrong, 'DOWNLOAD_FAILED', message)
    const whole = { headers, bytes: randomGguf(300_000), ranges: false }
    await fails(serve('/whole.gguf', whole), 'DOWNLOAD_FAILED', message)
    assert.deepEqual(
      (await downloads.cache.list()).map(({ url }) => url),
      [right],
    )
  })

  it('says before it fetches that there is no room, what is needed and what there is', async () => {
    const size = 2 ** 60
    const headers = { 'content-range': `bytes 0-65535/${size}` }
    const message = new RegExp(`large\\.gguf: ${size} bytes are needed, .* has \\d+ left`)
    await fails(serve('/large.gguf', { headers }), 'STORAGE_FULL', message)
    assert.equal(downloads.server.requests.length, 1)
    assert.deepEqual(await downloads.cache.list(), [])
  })

  it('tells a full disk from one that cannot be written to', async () => {
    const folder = await new DiskStorage(downloads.cacheDirectory).open('any')
    const full = await writeFile('/dev/full', 'x').catch((error) => error)
    const error = await folder.writeError(full, 'http://host/x.gguf', 77)
    assert.equal(error.code, 'STORAGE_FULL')
    assert.match(error.message, /x\.gguf: 77 bytes are needed/)
    const file = join(downloads.cacheDirectory, 'file')
    writeFileSync(file, '')
    await fails(serve('/any.gguf'), 'WRITE_FAILED', /file/, { cacheDirectory: file })
  })
})

describe('a hub', () => {
  const options = () => ({ hubEndpoint: downloads.server.origin })

  function serveHub(files) {
    const listing = files.map(({ path, bytes, oid }) => ({
      path,
      size: bytes.length,
      lfs: { oid: oid ?? sha256(bytes), size: bytes.length },
    }))
    const bytes = Buffer.from(JSON.stringify(listing))
    downloads.server.files.set('/api/models/owner/repo/tree/main', { bytes })
    for (const { path, bytes, served = path } of files)
      serve(`/owner/repo/resolve/main/${served}`, { bytes })
  }

  const hubCache = () =>
    diskCache({ cacheDirectory: downloads.cacheDirectory, hubEndpoint: downloads.server.origin })

  it('is asked for the file by repository alone, and for its checksum', async () => {
    serveHub([
      { path: 'tiny-Q2_K.gguf', bytes: randomBytes(10) },
      { path: 'tiny-Q4_K_M.gguf', bytes: content },
    ])
    await check('hf:owner/repo', content, options())
    serveHub([{ path: 'tiny-Q8_0.gguf', bytes: content, oid: '0'.repeat(64) }])
    await fails('hf:owner/repo', 'DOWNLOAD_FAILED', /SHA-256.*expected 0000/, options())
  })

  it('must have what its list says', async () => {
    serveHub([{ path: 'tiny.gguf', bytes: content }])
    serve('/owner/repo/resolve/main/tiny.gguf', { bytes: content.subarray(1) })
    const message = /has 1060920 bytes, the hub's list says 1060921/
    await fails('hf:owner/repo', 'DOWNLOAD_FAILED', message, options())
  })

  it('need not be there for a model that is kept', async () => {
    serveHub([{ path: 'tiny.gguf', bytes: content }])
    await check('hf:owner/repo/tiny.gguf', content, options())
    downloads.server.files.set('/api/models/owner/repo/tree/main', { status: 503 })
    serve('/owner/repo/resolve/main/tiny.gguf', { status: 503 })
    await check('hf:owner/repo/tiny.gguf', content, options())
    await check('hf:owner/repo', content, options())
  })

  it('has projectors, matrices, adapters and draft heads that are not the model', async () => {
    for (const model of ['m-Q6_K.gguf', 'sub/m.GGUF', 'mtplus.gguf', 'Lorax-7B.gguf']) {
      await downloads.cache.clear()
      const other = { bytes: randomBytes(10) }
      serveHub([
        { path: 'mmproj-m-Q8_0.gguf', ...other },
        { path: 'm.imatrix.gguf', ...other },
        { path: 'm-lora-q8_0.gguf', ...other },
        { path: 'adapter_f16.gguf', ...other },
        { path: 'm-MTP-Q8_0.gguf', ...other },
        { path: model, bytes: content },
      ])
      await check('hf:owner/repo', content, options())
    }
  })

  it('may have files with any name', async () => {
    const names = ['a#1.gguf', 'a?b.gguf', 'a%20b.gguf', 'ü b/c+d.gguf']
    for (const path of names) {
      const bytes = randomGguf(100_000)
      const encoded = path.split('/').map(encodeURIComponent).join('/')
      serveHub([{ path, bytes, served: encoded }])
      await check('hf:owner/repo', bytes, options())
      await check(`hf:owner/repo/${path}`, bytes, options())
      assert.equal(await hubCache().delete(`hf:owner/repo/${path}`), true)
    }
  })

  it('is never led out of the repository', async () => {
    const names = [
      'hf:o/..',
      'hf:../r',
      'hf:./r',
      'hf:o/r/../../x.gguf',
      'hf:o/r/x@..',
      'hf:o/r//x',
      'hf:o/r/\ud800.gguf',
      'hf:o/r@\ud800',
    ]
    for (const name of names) {
      await fails(name, 'INVALID_ARGUMENT', /hf:owner\/repo/, options())
      await assert.rejects(hubCache().delete(name), {
        name: 'RealmError',
        code: 'INVALID_ARGUMENT',
      })
    }
    assert.deepEqual(downloads.server.requests, [])
  })

  it('that refuses has the last word, and what may help is said', async () => {
    const headers = { 'x-error-message': 'Access to model owner/repo is restricted.' }
    for (const status of [401, 403]) {
      downloads.server.files.set('/api/models/owner/repo/tree/main', { status, headers })
      const word = `answered ${status} \\w+: Access to model owner/repo is restricted; `
      const needed = new RegExp(`${word}.*hubToken.*HF_TOKEN`)
      await fails('hf:owner/repo', 'DOWNLOAD_FAILED', needed, options())
      const refused = new RegExp(`${word}the token that was sent does not open it`)
      const shown = { ...options(), hubToken: 'secret' }
      await fails('hf:owner/repo', 'DOWNLOAD_FAILED', refused, shown)
      downloads.server.files.delete('/api/models/owner/repo/tree/main')
      serve('/owner/repo/resolve/main/m.gguf', { status })
      await fails('hf:owner/repo/m.gguf', 'DOWNLOAD_FAILED', /hubToken/, options())
    }
    const elsewhere = serve('/refused.gguf', { status: 401 }, downloads.other)
    const error = await fetchModel(elsewhere, options()).catch((error) => error)
    assert.doesNotMatch(error.message, /hubToken/)
  })

  it('may tell the checksum where it sends us on, and its token goes no further', async () => {
    const stored = serve('/stored', {}, downloads.other)
    const hubFile = '/owner/repo/resolve/main/sent-on.gguf'
    const sendOn = (checksum) => ({
      status: 302,
      headers: { location: stored, 'x-linked-etag': `"${checksum}"` },
    })
    const url = serve(hubFile, sendOn(sha256(content)))
    await check(url, content, { ...options(), hubToken: 'secret' })
    for (const { headers } of downloads.server.requests)
      assert.equal(headers.authorization, 'Bearer secret')
    assert.ok(downloads.other.requests.length > 10)
    for (const { headers } of downloads.other.requests)
      assert.equal(headers.authorization, undefined)
    await downloads.cache.clear()
    serve(hubFile, sendOn('1'.repeat(64)))
    await fails(url, 'DOWNLOAD_FAILED', /SHA-256.*expected 1111/)
  })
})

describe('two loads of one address', () => {
  const options = () => ({ cacheDirectory: downloads.cacheDirectory, policy })

  it('in one process download it once', async () => {
    const url = serve('/twice.gguf', { delayMs: 5 })
    await Promise.all([check(url), check(url)])
    assert.equal(downloads.server.sentBytes('/twice.gguf'), content.length)
  })

  it('in two processes download it once, and both see how far it is', async () => {
    let goOn
    const hold = new Promise((resolve) => {
      goOn = resolve
    })
    const url = serve('/processes.gguf', { hold, delayMs: 40 })
    const patient = { ...options(), policy: { ...policy, stallMs: 60_000 } }
    const first = startDownload(url, patient)
    await first.reached(0.1)
    const second = startDownload(url, patient)
    await second.reached(0.1)
    assert.ok(second.lines.every(({ progress }) => progress.fraction < 1))
    goOn()
    const [{ path }, end] = await Promise.all([first.end, second.end])
    assert.equal(end.path, path)
    assert.deepEqual(readFileSync(path), content)
    assert.equal(downloads.server.sentBytes('/processes.gguf'), content.length)
  })

  it('when the first process is killed, the second goes on from there', async () => {
    const url = serve('/killed.gguf', { delayMs: 20 })
    const first = startDownload(url, options())
    await first.reached(0.4)
    const second = startDownload(url, options())
    await first.kill()
    const { path } = await second.end
    assert.deepEqual(readFileSync(path), content)
    assert.ok(downloads.server.sentBytes('/killed.gguf') < 1.6 * content.length)
  })

  it('a process that was killed leaves what the next one goes on with', async () => {
    const url = serve('/crashed.gguf', { delayMs: 20 })
    const first = startDownload(url, options())
    await first.reached(0.5)
    await first.kill()
    const [partial] = await downloads.cache.list()
    assert.ok(partial.bytes > 0.2 * content.length, `${partial.bytes} bytes`)
    serve('/crashed.gguf')
    downloads.server.requests.length = 0
    await check(url)
    assert.equal(downloads.server.sentBytes('/crashed.gguf'), content.length - partial.bytes)
  })

  it('and the file that has changed after a crash is fetched anew', async () => {
    const url = serve('/moved-on.gguf', { delayMs: 20 })
    const first = startDownload(url, options())
    await first.reached(0.4)
    await first.kill()
    const changed = randomGguf(content.length)
    serve('/moved-on.gguf', { bytes: changed, etag: '"v2"' })
    await check(url, changed)
  })

  it('what is being downloaded is not deleted', async () => {
    const { promise: hold, resolve: goOn } = held()
    const url = serve('/under-way.gguf', { hold })
    const first = startDownload(url, options())
    await stored(content.length / 4)
    await assert.rejects(downloads.cache.delete(url), { code: 'IN_USE', message: /under-way/ })
    goOn()
    assert.deepEqual(readFileSync((await first.end).path), content)
    assert.equal(await downloads.cache.delete(url), true)
    assert.deepEqual(await downloads.cache.list(), [])
  })
})

describe('a stored model that is read', () => {
  const deleted = (source) => downloads.cache.delete(source).catch(({ code }) => code)

  it('is not deleted before the last reader lets it go', async () => {
    const url = serve('/read.gguf')
    const readers = [await openModel(url), await openModel(url)]
    for (const { release } of readers) {
      assert.equal(await deleted(url), 'IN_USE')
      await assert.rejects(downloads.cache.clear(), { code: 'IN_USE', message: /read\.gguf/ })
      release()
    }
    assert.equal(await deleted(url), true)
  })

  it('by another process is not deleted before that ends, in whatever way', async () => {
    const url = serve('/elsewhere.gguf')
    const { cacheDirectory } = downloads
    const reader = startDownload(url, { cacheDirectory, policy, stays: true })
    while (reader.lines.at(-1)?.path === undefined) await sleep(10)
    assert.equal(await deleted(url), 'IN_USE')
    await reader.kill()
    assert.equal(await deleted(url), true)
    assert.deepEqual(
      readdirSync(join(cacheDirectory, 'locks')).filter((name) => name.includes('.')),
      [],
    )
  })

  it('stays when the cache is pruned, which begins with what was not used for longest', async () => {
    const urls = []
    for (const name of ['a', 'b', 'c', 'd']) {
      const url = serve(`/${name}.gguf`, { bytes: randomGguf(100_000) })
      await fetchModel(url)
      urls.push(url)
      await sleep(5)
    }
    const [, b] = urls
    const { release } = await openModel(b, { revalidate: Number.POSITIVE_INFINITY })
    const pruned = async (maxBytes) =>
      (await downloads.cache.prune({ maxBytes })).map(({ url }) => url.at(-6))
    assert.deepEqual(await pruned(400_000), [])
    assert.deepEqual(await pruned(399_999), ['a'])
    assert.deepEqual(await pruned(0), ['c', 'd'])
    release()
    assert.deepEqual(await pruned(0), ['b'])
    for (const options of [undefined, {}, { maxBytes: -1 }, { maxBytes: 1, x: 1 }])
      await assert.rejects(downloads.cache.prune(options), { code: 'INVALID_ARGUMENT' })
  })
})
