/**
 * What tests of downloads share: two servers that misbehave when told to, and an empty cache for
 * each test.
 */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { diskCache } from '../../dist/node/disk-cache.js'
import { resolveSource } from '../../dist/node/source.js'
import { serveFiles } from './file-server.mjs'
import { randomGguf } from './gguf.mjs'

/**
 * Small pieces and short waits, so that a test of many requests is quick. Nothing counts as silent
 * unless a test says so: on a busy machine everything is, for a while.
 */
export const policy = {
  pieceBytes: 65536,
  parallel: 4,
  attempts: 4,
  backoffMs: 20,
  stallMs: 120_000,
}
/** For the tests of silence. */
export const impatient = { ...policy, stallMs: 500 }
export const content = randomGguf((1 << 20) + 12345)
export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

/** Sets servers and cache up for the tests of a file. */
export function useDownloads() {
  /** What lets go of the models that a test has opened. */
  const releases = []
  const downloads = {
    server: undefined,
    /** A server of another origin. */
    other: undefined,
    cacheDirectory: undefined,
    cache: undefined,
    /** What the last download reported, and logged. */
    progress: [],
    log: [],
    serve,
    fetchModel,
    openModel,
    check,
    fails,
    stored,
    underWay,
  }

  before(async () => {
    downloads.server = await serveFiles()
    downloads.other = await serveFiles()
  })
  after(() => {
    downloads.server.close()
    downloads.other.close()
  })
  beforeEach(() => {
    downloads.cacheDirectory = mkdtempSync(join(tmpdir(), 'realm-download-'))
    downloads.cache = diskCache({ cacheDirectory: downloads.cacheDirectory })
    downloads.server.requests.length = 0
    downloads.other.requests.length = 0
  })
  afterEach(() => {
    for (const release of releases.splice(0)) release()
    rmSync(downloads.cacheDirectory, { recursive: true, force: true })
  })
  return downloads

  /** Serves a file and gives its address. */
  function serve(path, file, from = downloads.server) {
    from.files.set(path, { bytes: content, etag: '"v1"', ...file })
    return from.origin + path
  }

  /** The path of a downloaded model, which is let go at once. */
  async function fetchModel(source, options) {
    const { source: path, release } = await openModel(source, options)
    release()
    return path
  }

  /** A downloaded model that is held, until `release` or the end of the test. */
  async function openModel(source, options) {
    downloads.progress = []
    downloads.log = []
    const opened = await resolveSource(source, {
      cacheDirectory: downloads.cacheDirectory,
      policy,
      onProgress: (event) => downloads.progress.push(event),
      logger: ({ message }) => downloads.log.push(message),
      ...options,
    })
    releases.push(opened.release)
    return opened
  }

  /** Downloads and checks that these bytes are there. Gives the path. */
  async function check(source, bytes = content, options) {
    const path = await fetchModel(source, options)
    assert.equal(sha256(readFileSync(path)), sha256(bytes))
    return path
  }

  async function fails(source, code, message, options) {
    await assert.rejects(fetchModel(source, options), { name: 'RealmError', code, message })
  }

  /** Waits until so many bytes of the only model are stored. */
  async function stored(bytes) {
    for (;;) {
      const [model] = await downloads.cache.list()
      if (model?.bytes >= bytes) return
      await sleep(10)
    }
  }

  /**
   * Begins to download a file whose second half the server holds back, and calls `act` when a
   * quarter of it is stored; then the server goes on. Resolves to what the download comes to.
   */
  async function underWay(path, act, options) {
    const { promise: hold, resolve: goOn } = held()
    const loading = fetchModel(serve(path, { hold }), options)
    const ended = loading.then(
      () => {},
      () => {},
    )
    await Promise.race([stored(content.length / 4), ended])
    await act()
    goOn()
    return loading
  }
}

/** A promise for `hold` of a served file, and what resolves it. */
export function held() {
  let resolve
  const promise = new Promise((r) => {
    resolve = r
  })
  return { promise, resolve }
}
