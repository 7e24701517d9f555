/**
 * What is disposed of is given back, and what the engine hands over is the JS heap's.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { Realm, RealmError } from '@realm-ai/realm'
import * as native from '@realm-ai/realm/native'
import { bundledModel, conformanceKit, root, withModel } from './support/models.mjs'

describe('memory', () => {
  it('stays flat over 200 rounds of load, generate and dispose', (t) => {
    const script = join(root, 'test-js', 'support', 'rounds.mjs')
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--expose-gc', script, bundledModel, '200'],
      {
        encoding: 'utf8',
        cwd: root,
        // glibc keeps freed blocks of up to 32 MB by default, more or less of them from round to
        // round; with a fixed threshold they go back, and what is left over is a leak.
        env: { ...process.env, MALLOC_MMAP_THRESHOLD_: '262144' },
      },
    )
    assert.equal(status, 0, stderr)
    const { halfway, end } = JSON.parse(stdout)
    const grownMegabytes = (end - halfway) / 2 ** 20
    t.diagnostic(`grew by ${grownMegabytes.toFixed(2)} MB over the last 100 rounds`)
    assert.ok(grownMegabytes < 8, `grew by ${grownMegabytes} MB`)
  })

  it('of results is allocated by the JS engine, as hosts without external buffers demand', () =>
    withModel(bundledModel, async (model) => {
      const id = native.storeModel(bundledModel)
      const ids = Uint32Array.from({ length: 500 }, (_, i) => i)
      const hidden = await model.embedTokens(ids)
      const calls = {
        tensor: async () => (await model.tensor('token_embd.weight')).data,
        embedTokens: () => model.embedTokens(ids),
        forwardLayer: () => model.forwardLayer(0, hidden),
        computeLogits: () => model.computeLogits(hidden),
        'native getTensor': () => native.getTensor(id, 'token_embd.weight'),
        'native embedTokens': () => native.embedTokens(id, ids),
        'native forwardLayer': () => native.forwardLayer(id, 0, hidden, 0),
        'native computeLogits': () => native.computeLogits(id, hidden),
      }
      for (const [name, call] of Object.entries(calls)) {
        // Node counts here what V8's own allocator gave, not the memory that an addon lends.
        const before = process.memoryUsage().arrayBuffers
        const array = await call()
        const grown = process.memoryUsage().arrayBuffers - before
        assert.ok(grown >= array.byteLength, `${name}: ${grown} of ${array.byteLength} bytes`)
      }
      native.removeModel(id)
    }))
})

describe('an estimate of memory', () => {
  it('is to the byte what a load says it takes', async () => {
    const all = [
      {},
      { layout: 'mapped', kvCacheType: 'f16', contextLength: 128 },
      { layout: 'packed', kvCacheType: 'q8_0', maxSequences: 7 },
      { vocabOnly: true },
    ]
    for (const options of all) {
      const estimate = await Realm.estimate(bundledModel, { backend: 'cpu', ...options })
      const realm = await Realm.create({ backend: 'cpu' })
      const { info } = await realm.load(bundledModel, options)
      const { memory, backend, layout, contextLength, maxSequences } = info
      assert.deepEqual(estimate, { ...memory, backend, layout, contextLength, maxSequences })
      const { weights, copies, kv, states, slots } = memory
      assert.equal(memory.total, weights + copies + kv + states + slots)
      assert.deepEqual([info.packedBytes, info.kvCacheBytes], [copies, kv])
      assert.equal(memory.total > 0, options.vocabOnly !== true)
      await realm.dispose()
    }
  })

  it('grows with what is asked for, part by part', async () => {
    const estimate = (options) => Realm.estimate(bundledModel, { layout: 'mapped', ...options })
    const small = await estimate({ contextLength: 128, maxSequences: 1, kvCacheType: 'f32' })
    const long = await estimate({ contextLength: 256, maxSequences: 1, kvCacheType: 'f32' })
    assert.equal(long.kv, 2 * small.kv)
    assert.equal(long.weights, small.weights)
    const halves = await estimate({ contextLength: 128, maxSequences: 1, kvCacheType: 'f16' })
    assert.equal(halves.kv, small.kv / 2)
    const packed = await estimate({ layout: 'packed', contextLength: 128, maxSequences: 1 })
    assert.ok(packed.copies > 0 && small.copies === 0)
    const [one, two] = [await estimate({ threads: 1 }), await estimate({ threads: 2 })]
    assert.ok(one.slots < two.slots, 'each thread has memory of its own')
  })

  it('counts a state for each sequence of a model that has them', async () => {
    const bytes = gunzipSync(readFileSync(join(conformanceKit(), 'models/lfm2/model.gguf.gz')))
    const estimate = (maxSequences) => Realm.estimate(bytes, { maxSequences, contextLength: 64 })
    const [one, five] = [await estimate(1), await estimate(5)]
    assert.ok(one.states > 0)
    assert.equal(five.states, 5 * one.states)
  })

  it('is for the bytes of a file, a Blob and a file handle, too', async () => {
    const bytes = readFileSync(bundledModel)
    const options = { backend: 'cpu', layout: 'mapped' }
    const realm = await Realm.create({ backend: 'cpu' })
    const { total } = (await realm.load(bytes, { layout: 'mapped' })).info.memory
    await realm.dispose()
    const cacheDirectory = mkdtempSync(join(tmpdir(), 'realm-memory-'))
    const totalOf = async (source) =>
      (await Realm.estimate(source, { ...options, cacheDirectory })).total
    assert.equal(await totalOf(bytes), total)
    // What the engine copies of a mapped file is let go; bytes in memory stay beside it. A Blob is
    // put into a file.
    const ofFile = await totalOf(bundledModel)
    assert.ok(total > ofFile)
    const blob = new Blob([bytes])
    for (const source of [blob, { getFile: async () => blob }])
      assert.equal(await totalOf(source), ofFile)
    rmSync(cacheDirectory, { recursive: true, force: true })
  })

  it('is refused as a load is', async () => {
    const refused = (source, options) => assert.rejects(Realm.estimate(source, options), RealmError)
    await assert.rejects(Realm.estimate('nowhere.gguf'), { code: 'MODEL_NOT_FOUND' })
    await assert.rejects(Realm.estimate(bundledModel, { maxSequences: 5000 }), {
      code: 'INVALID_ARGUMENT',
      message: /maxSequences is 5000/,
    })
    await assert.rejects(Realm.estimate(bundledModel, { memoryLimit: 5 }), {
      code: 'INVALID_ARGUMENT',
    })
    await assert.rejects(Realm.estimate(bundledModel, { signal: AbortSignal.abort() }), {
      code: 'ABORTED',
    })
    await refused(bundledModel, { backend: 'abacus' })
    await refused(new Uint8Array(64))
  })
})

describe('the memory limit of a realm', () => {
  const memoryOf = ({ info }) => info.memory.total
  // Of a mapped file, what is copied is let go; bytes in memory stay beside their copies.
  const bytes = readFileSync(bundledModel)

  /** Loads with a limit; what it was refused with, if it was. */
  async function loadWithin(memoryLimit, options) {
    const realm = await Realm.create({ backend: 'cpu', memoryLimit })
    const model = await realm.load(bytes, options).catch((error) => error)
    const outcome = model instanceof Error ? model : { ...model.info }
    await realm.dispose()
    return outcome
  }

  it('refuses a model that needs more, and names both numbers and every part', async () => {
    const options = { layout: 'mapped', backend: 'cpu' }
    const { total, weights, kv, slots } = await Realm.estimate(bytes, options)
    const { code, message } = await loadWithin(total - 1, { layout: 'mapped' })
    assert.equal(code, 'OUT_OF_MEMORY')
    assert.match(message, new RegExp(`needs ${total} bytes .* leaves ${total - 1};`))
    assert.ok(message.includes(`(${weights} of weights, ${kv} of KV cache, ${slots} of`), message)
    assert.equal((await loadWithin(total, { layout: 'mapped' })).layout, 'mapped')
  })

  it('keeps matrices as they are where copies are too much', async () => {
    const packed = await withModel(bytes, memoryOf, { layout: 'packed' })
    assert.equal((await loadWithin(packed, { layout: 'packed' })).layout, 'packed')
    assert.equal((await loadWithin(packed - 1, { layout: 'packed' })).code, 'OUT_OF_MEMORY')
    assert.equal((await loadWithin(packed - 1)).layout, 'mapped')
  })

  it('is for all its models together, and what is disposed of counts no more', async () => {
    const options = { layout: 'mapped' }
    const needed = await withModel(bundledModel, memoryOf, options)
    const realm = await Realm.create({ memoryLimit: 2 * needed })
    const [first] = [
      await realm.load(bundledModel, options),
      await realm.load(bundledModel, options),
    ]
    await assert.rejects(realm.load(bundledModel, options), {
      code: 'OUT_OF_MEMORY',
      message: /leaves 0/,
    })
    await (await realm.load(bundledModel, { vocabOnly: true })).dispose()
    await first.dispose()
    const both = [realm.load(bundledModel, options), realm.load(bundledModel, options)]
    const outcomes = await Promise.allSettled(both)
    assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    await realm.dispose()
  })
})
