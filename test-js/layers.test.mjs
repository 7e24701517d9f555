/**
 * Layers one by one and whole generations are one path: the same bits.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { argmax, bundledModel, GREEDY, layerLogits, referenceFile } from './support/models.mjs'

const PROMPT = 'Once upon a time, there was a little dog who lived by the lake. One day'

for (const file of ['f16', 'Q8_0', 'Q4_K_M'].map((kind) => `realm-tiny-stories-${kind}.gguf`)) {
  describe(`the layers of ${file}`, () => {
    let realm
    let model
    let ids

    before(async () => {
      realm = await Realm.create()
      model = await realm.load(referenceFile(file))
      ids = model.tokenize(PROMPT)
    })
    after(() => realm.dispose())

    it('give the same bits for a whole prompt as for one token at a time', async () => {
      const whole = await layerLogits(model, ids, { sequence: 1 })
      for (const [position, id] of ids.entries()) {
        const [row] = await layerLogits(model, [id], { position, sequence: 2 })
        assert.ok(sameBits(row, whole[position]), `row ${position} differs`)
      }
    })

    it('give the same bits for a prompt in uneven parts', async () => {
      const whole = await layerLogits(model, ids, { sequence: 3 })
      const parts = [ids.slice(0, 5), ids.slice(5, 6), ids.slice(6)]
      let position = 0
      for (const part of parts) {
        const rows = await layerLogits(model, part, { position, sequence: 4 })
        rows.forEach((row, i) => {
          assert.ok(sameBits(row, whole[position + i]), `row ${position + i} differs`)
        })
        position += part.length
      }
    })

    it('give at every step the token that a greedy generation takes', async () => {
      const { tokens } = await model.generate(ids, {
        ...GREEDY,
        maxTokens: 40,
        ignoreEos: true,
      })
      assert.equal(tokens.length, 40)
      let row = (await layerLogits(model, ids, { sequence: 5 })).at(-1)
      for (const [i, token] of tokens.entries()) {
        assert.equal(argmax(row), token, `token ${i}`)
        const position = ids.length + i
        ;[row] = await layerLogits(model, [token], { position, sequence: 5 })
      }
    })

    it('start over when positions go back, as if the sequence were new', async () => {
      const first = await layerLogits(model, ids.slice(0, 8), { sequence: 6 })
      const again = await layerLogits(model, ids.slice(0, 8), { sequence: 6 })
      assert.ok(sameBits(first.at(-1), again.at(-1)))
      model.dropLayerSequence(6)
      const fresh = await layerLogits(model, ids.slice(0, 8), { sequence: 6 })
      assert.ok(sameBits(first.at(-1), fresh.at(-1)))
    })

    it('leave the activations they are given as they were', async () => {
      const hidden = await model.embedTokens(ids)
      const copy = hidden.slice()
      const out = await model.forwardLayer(0, hidden, { sequence: 7 })
      assert.ok(sameBits(hidden, copy))
      assert.equal(out.length, ids.length * model.hiddenSize)
      assert.notEqual(out.buffer, hidden.buffer)
    })
  })
}

describe('a sequence of the layers', () => {
  it('ends where the context ends', async () => {
    const realm = await Realm.create()
    const model = await realm.load(bundledModel, { contextLength: 32 })
    const hidden = await model.embedTokens([1])
    await model.forwardLayer(0, hidden, { position: 31 }).catch((error) => {
      // Position 31 is inside the context; whether a gap before it is allowed is another matter.
      assert.equal(error.code, 'INVALID_ARGUMENT')
    })
    await assert.rejects(model.forwardLayer(0, hidden, { position: 32 }), {
      name: 'RealmError',
      code: /INVALID_ARGUMENT|KV_EXHAUSTED/,
    })
    await realm.dispose()
  })
})

describe('a signal', () => {
  it('ends calls of single layers, and answers have their turn beside long ones', async () => {
    const realm = await Realm.create()
    const model = await realm.load(bundledModel)
    const aborted = { name: 'RealmError', code: 'ABORTED' }
    const signal = AbortSignal.abort()
    const row = await model.embedTokens([1])
    await assert.rejects(model.embedTokens([1], { signal }), aborted)
    await assert.rejects(model.forwardLayer(0, row, { signal }), aborted)
    await assert.rejects(model.computeLogits(row, { signal }), aborted)

    const controller = new AbortController()
    const rows = new Float32Array(10_000 * model.hiddenSize).fill(0.5)
    let isRunning = true
    const long = model.computeLogits(rows, { signal: controller.signal }).finally(() => {
      isRunning = false
    })
    const refused = assert.rejects(long, aborted)
    await model.generate('Once upon a time', { ...GREEDY, maxTokens: 8 })
    assert.ok(isRunning, 'ten thousand rows came before eight tokens')
    controller.abort()
    await refused
    assert.ok(sameBits(await model.embedTokens([1]), row))
    await realm.dispose()
  })
})

/** Equal as bits, so that 0 and -0 differ and NaN equals itself. */
function sameBits(a, b) {
  const bytes = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength)
  return bytes(a).equals(bytes(b))
}
