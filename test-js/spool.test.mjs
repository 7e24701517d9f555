/**
 * Models that come as a Blob or a stream: put into a file beside the downloads, and mapped from
 * there.
 */

import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY } from './support/models.mjs'

const bytes = readFileSync(bundledModel)
const blob = new Blob([bytes])

let folder
let realm

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'realm-spool-'))
  realm = await Realm.create({ backend: 'cpu', cacheDirectory: folder })
})
afterEach(async () => {
  await realm.dispose()
  rmSync(folder, { recursive: true, force: true })
})

/** What lies in the cache, locks included. */
const entries = () =>
  [folder, join(folder, 'locks')].flatMap((path) =>
    existsSync(path) ? readdirSync(path).filter((name) => name !== 'locks') : [],
  )

/** Waits until nothing of a spooled model is left. */
async function emptied() {
  while (entries().length > 0) await sleep(5)
}

const answerOf = async (model) => (await model.generate('Once', { ...GREEDY, maxTokens: 5 })).text

describe('a model from a Blob or a stream', () => {
  it('is mapped from a file, which goes when the model is disposed of', async () => {
    for (const source of [() => blob, () => blob.stream(), () => ({ getFile: async () => blob })]) {
      const model = await realm.load(source(), { layout: 'mapped' })
      const [name] = readdirSync(folder).filter((entry) => entry.startsWith('spool-'))
      const path = join(folder, name, 'model.gguf')
      assert.deepEqual(readFileSync(path), bytes)
      if (process.platform === 'linux')
        assert.ok(readFileSync('/proc/self/maps', 'utf8').includes(path), 'is mapped')
      assert.deepEqual(await realm.cache.list(), [])
      await realm.cache.clear()
      const fromPath = await realm.load(bundledModel)
      assert.equal(await answerOf(model), await answerOf(fromPath))
      await model.dispose()
      await emptied()
    }
  })

  it('is reported as far as it is there', async () => {
    for (const [source, fraction] of [
      [blob, 1],
      [blob.stream(), 1],
    ]) {
      const events = []
      await realm.load(source, { onProgress: (event) => events.push(event) })
      const last = events.filter(({ stage }) => stage === 'download').at(-1)
      const sizes = { receivedBytes: bytes.length, totalBytes: bytes.length }
      assert.deepEqual(last, { stage: 'download', fraction, ...sizes })
    }
  })

  it('leaves nothing where it fails, is stopped or is no model', async () => {
    const failing = new ReadableStream({
      start: (controller) => controller.enqueue(bytes.subarray(0, 1000)),
      pull: (controller) => controller.error(new Error('the line is cut')),
    })
    await assert.rejects(realm.load(failing), { code: 'MODEL_UNREADABLE', message: /line is cut/ })
    await emptied()
    const controller = new AbortController()
    let cancelled
    const silent = new ReadableStream({
      pull: () => new Promise(() => controller.abort('enough')),
      cancel: (reason) => {
        cancelled = reason
      },
    })
    const { signal } = controller
    await assert.rejects(realm.load(silent, { signal }), { code: 'ABORTED', cause: 'enough' })
    assert.ok(cancelled)
    await emptied()
    await assert.rejects(realm.load(new Blob(['none'])), { code: 'MODEL_INVALID' })
    await emptied()
  })

  it('removes what a process that was killed has left, and nothing that is in use', async () => {
    const left = join(folder, 'spool-of-the-dead')
    mkdirSync(left)
    writeFileSync(join(left, 'model.gguf'), 'half')
    const first = await realm.load(blob)
    assert.ok(!existsSync(left))
    const second = await realm.load(blob.stream())
    assert.equal(await answerOf(first), await answerOf(second))
    assert.equal(readdirSync(folder).filter((name) => name.startsWith('spool-')).length, 2)
  })

  it('says where it cannot be written', async () => {
    const path = join(folder, 'file')
    writeFileSync(path, '')
    const other = await Realm.create({ backend: 'cpu', cacheDirectory: path })
    await assert.rejects(other.load(blob), { code: 'WRITE_FAILED', message: /file/ })
    await other.dispose()
  })
})
