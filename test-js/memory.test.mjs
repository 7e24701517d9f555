/**
 * What is disposed of is given back, and what the engine hands over is the JS heap's.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import * as native from '@realm-ai/realm/native'
import { bundledModel, root, withModel } from './support/models.mjs'

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

describe('the memory limit of a realm', () => {
  const memoryOf = ({ info }) => info.weightBytes + info.kvCacheBytes + info.packedBytes

  /** Loads with a limit; what it was refused with, if it was. */
  async function loadWithin(memoryLimit, options) {
    const realm = await Realm.create({ backend: 'cpu', memoryLimit })
    const model = await realm.load(bundledModel, options).catch((error) => error)
    const outcome = model instanceof Error ? model : { ...model.info }
    await realm.dispose()
    return outcome
  }

  it('refuses a model that needs more, and names both numbers', async () => {
    const needed = await withModel(bundledModel, memoryOf, { layout: 'mapped' })
    const { code, message } = await loadWithin(needed - 1, { layout: 'mapped' })
    assert.equal(code, 'OUT_OF_MEMORY')
    assert.match(message, new RegExp(`needs ${needed} bytes .* leaves ${needed - 1};`))
    assert.equal((await loadWithin(needed, { layout: 'mapped' })).layout, 'mapped')
  })

  it('keeps matrices as the file has them where copies are too much', async () => {
    const packed = await withModel(bundledModel, memoryOf, { layout: 'packed' })
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
