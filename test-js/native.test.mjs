/**
 * The flat synchronous API.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import * as native from '@realm-ai/realm/native'
import { argmax, bundledModel, GREEDY, layerLogits, rows } from './support/models.mjs'

let realm
let model
let id

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
  id = native.storeModel(bundledModel)
})
after(async () => {
  native.removeModel(id)
  await realm.dispose()
})

/** The bytes of a typed array, at an address that is not a multiple of 4. */
function unalignedBytes(array) {
  const bytes = Buffer.alloc(array.byteLength + 1).subarray(1)
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
  return bytes
}

/** A loop of one's own: all layers, then the logits of the last row. */
function lastLogits(modelId, ids, position, sequenceId) {
  const { layerCount, vocabularySize } = native.getModelInfo(modelId)
  let hidden = native.embedTokens(modelId, ids)
  for (let layer = 0; layer < layerCount; layer++)
    hidden = native.forwardLayer(modelId, layer, hidden, position, sequenceId)
  return rows(native.computeLogits(modelId, hidden), vocabularySize).at(-1)
}

describe('the native API', () => {
  it('gives the bits that the asynchronous one gives', async () => {
    const ids = model.tokenize('Once upon a time')
    const want = (await layerLogits(model, ids)).at(-1)
    const got = lastLogits(id, ids, 0, 0)
    assert.deepEqual(Buffer.from(got.slice().buffer), Buffer.from(want.slice().buffer))
  })

  it('lets a loop of one’s own say what generate says', async () => {
    const prompt = model.tokenize('Once upon a time')
    const { tokens } = await model.generate(prompt, { ...GREEDY, maxTokens: 20, ignoreEos: true })
    const said = []
    let next = argmax(lastLogits(id, prompt, 0, 1))
    for (let position = prompt.length; said.push(next) < 20; position++)
      next = argmax(lastLogits(id, [next], position, 1))
    assert.deepEqual(said, [...tokens])
  })

  it('takes typed arrays, plain arrays and raw bytes, and returns Float32Array', () => {
    const ids = Uint32Array.of(5, 6, 7)
    const want = native.embedTokens(id, ids)
    assert.ok(want instanceof Float32Array)
    for (const form of [[...ids], Int32Array.from(ids), unalignedBytes(ids)])
      assert.deepEqual(native.embedTokens(id, form), want)
    const forms = [want, [...want], Float64Array.from(want), unalignedBytes(want)]
    const outs = forms.map((hidden) => native.forwardLayer(id, 0, hidden, 0))
    for (const out of outs) {
      assert.ok(out instanceof Float32Array)
      assert.deepEqual(out, outs[0])
    }
    for (const hidden of forms)
      assert.deepEqual(native.computeLogits(id, hidden), native.computeLogits(id, want))
  })

  it('keeps sequences apart, and uses sequence 0 by default', () => {
    const [first, second, next] = [[10, 11], [20, 21], [30]]
    for (const [sequence, ids] of [
      [2, first],
      [3, second],
    ])
      native.forwardLayer(id, 0, native.embedTokens(id, ids), 0, sequence)
    native.forwardLayer(id, 0, native.embedTokens(id, first), 0)
    const hidden = native.embedTokens(id, next)
    const after = (sequence) => native.forwardLayer(id, 0, hidden, 2, sequence)
    assert.notDeepEqual(after(2), after(3))
    assert.deepEqual(after(undefined), after(2))
  })

  it('stores bytes as well as paths, and several models', () => {
    const other = native.storeModel(readFileSync(bundledModel), { contextLength: 64, threads: 1 })
    assert.notEqual(other, id)
    assert.equal(native.getModelInfo(other).contextLength, 64)
    assert.equal(native.getModelInfo(other).threads, 1)
    assert.deepEqual(
      native.getTensor(other, 'output_norm.weight'),
      native.getTensor(id, 'output_norm.weight'),
    )
    native.removeModel(other)
    assert.throws(() => native.getModelInfo(other), {
      name: 'RealmError',
      code: 'INVALID_ARGUMENT',
      message: new RegExp(`modelId.*${other}`),
    })
  })

  it('throws RealmErrors with codes', () => {
    const code = (run) => {
      try {
        run()
        return 'nothing thrown'
      } catch (error) {
        assert.ok(error instanceof native.RealmError, error.stack)
        return error.code
      }
    }
    const hidden = native.embedTokens(id, [1])
    assert.equal(
      code(() => native.storeModel('/no/such.gguf')),
      'MODEL_NOT_FOUND',
    )
    assert.equal(
      code(() => native.storeModel(new Uint8Array(64))),
      'MODEL_INVALID',
    )
    assert.equal(
      code(() => native.storeModel(3)),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.storeModel(bundledModel, { gpu: 1 })),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.embedTokens(id, [-1])),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.embedTokens(id, [1e6])),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.embedTokens(id, [1], -1)),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.embedTokens('x', [1])),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.forwardLayer(id, 4, hidden, 0)),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.forwardLayer(id, 0, hidden, 1.5)),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.forwardLayer(id, 0, [1, 2], 0)),
      'SHAPE_MISMATCH',
    )
    assert.equal(
      code(() => native.computeLogits(id, Buffer.alloc(6))),
      'SHAPE_MISMATCH',
    )
    assert.equal(
      code(() => native.getTensor(id, 'nope')),
      'INVALID_ARGUMENT',
    )
    assert.equal(
      code(() => native.removeModel(12345)),
      'INVALID_ARGUMENT',
    )
  })
})
