/**
 * Vectors of texts: pooling, batches, encoders and decoders, and what is refused.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { openKit } from './conformance/kit.mjs'
import { bundledModel, conformanceKit, rows } from './support/models.mjs'

const kit = openKit(conformanceKit())
const TEXTS = ['a small boat crossed the sea.', 'x', 'nobody noticed the boat']

let realm
before(async () => {
  realm = await Realm.create()
})
after(() => realm.dispose())

/** Largest difference of two vectors. */
const distance = (a, b) => {
  assert.equal(a.length, b.length)
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i])), 0)
}
const length = (vector) => Math.hypot(...vector)

describe('an encoder', () => {
  let model
  before(async () => {
    model = await realm.load(kit.readModel('models/bert/model.gguf.gz'))
  })

  it('says how it pools, and pools so by default', async () => {
    assert.equal(model.info.pooling, 'mean')
    assert.deepEqual(await model.embed('x'), await model.embed('x', { pooling: 'mean' }))
  })

  it('gives one vector for a text and a list for a list', async () => {
    const one = await model.embed(TEXTS[0])
    const all = await model.embed(TEXTS)
    assert.ok(one instanceof Float32Array)
    assert.equal(one.length, model.hiddenSize)
    assert.equal(all.length, TEXTS.length)
    assert.deepEqual(await model.embed([]), [])
  })

  it('gives a text the same bits alone and among others', async () => {
    const many = Array.from({ length: 70 }, (_, i) => TEXTS[i % TEXTS.length])
    const alone = await Promise.all(TEXTS.map((text) => model.embed(text)))
    const together = await model.embed(many)
    const expected = many.map((_, i) => alone[i % TEXTS.length])
    assert.deepEqual(together, expected)
  })

  it('takes token ids as they are', async () => {
    const ids = model.tokenize(TEXTS[0], { addSpecial: true })
    const expected = await model.embed(TEXTS[0])
    const forms = [ids, [...ids], Int32Array.from(ids), Buffer.from(ids.buffer.slice(0))]
    for (const form of forms) assert.deepEqual(await model.embed(form), expected)
    assert.deepEqual(await model.embed([...forms, TEXTS[0]]), Array(5).fill(expected))
    assert.deepEqual(await model.embed([[...ids]]), [expected])
  })

  it('pools the rows that it gives without pooling', async () => {
    const plain = { normalize: false }
    const tokens = rows(
      await model.embed(TEXTS[0], { ...plain, pooling: 'none' }),
      model.hiddenSize,
    )
    assert.equal(tokens.length, model.tokenize(TEXTS[0], { addSpecial: true }).length)
    const pooled = (pooling) => model.embed(TEXTS[0], { ...plain, pooling })
    assert.deepEqual(await pooled('cls'), tokens[0].slice())
    assert.deepEqual(await pooled('last'), tokens.at(-1).slice())
    const mean = tokens[0].map(
      (_, i) => tokens.reduce((sum, row) => sum + row[i], 0) / tokens.length,
    )
    assert.ok(distance(await pooled('mean'), mean) < 1e-6)
  })

  it('scales vectors to length 1 unless told not to', async () => {
    assert.ok(Math.abs(length(await model.embed(TEXTS[0])) - 1) < 1e-6)
    assert.ok(length(await model.embed(TEXTS[0], { normalize: false })) > 2)
  })

  it('stops when its signal says so, and goes on working', async () => {
    const aborted = (promise) => assert.rejects(promise, { code: 'ABORTED' })
    await aborted(model.embed('x', { signal: AbortSignal.abort() }))
    const controller = new AbortController()
    const many = model.embed(Array(2000).fill(TEXTS[0]), { signal: controller.signal })
    controller.abort()
    await aborted(many)
    const { signal } = new AbortController()
    assert.deepEqual(await model.embed(TEXTS, { signal }), await model.embed(TEXTS))
    await assert.rejects(model.embed('x', { signal: 'now' }), { code: 'INVALID_ARGUMENT' })
  })

  it('cannot generate, compute logits or rank, and says what it can do', async () => {
    const refused = { name: 'RealmError', code: 'INVALID_ARGUMENT' }
    await assert.rejects(model.generate('a boat'), { ...refused, message: /encoder.*use embed/ })
    const hidden = new Float32Array(model.hiddenSize)
    await assert.rejects(model.computeLogits(hidden), { ...refused, message: /encoder/ })
    await assert.rejects(model.rerank('a', ['b']), { ...refused, message: /does not rank/ })
  })

  it('refuses a text that is longer than its context', async () => {
    const { contextLength } = model.info
    await model.embed(new Uint32Array(contextLength).fill(7))
    await assert.rejects(model.embed(new Uint32Array(contextLength + 1).fill(7)), {
      code: 'KV_EXHAUSTED',
      message: new RegExp(`${contextLength + 1} tokens.*${contextLength}`),
    })
  })

  it('refuses a context it was not trained for', async () => {
    const bytes = kit.readModel('models/bert/model.gguf.gz')
    await assert.rejects(realm.load(bytes, { contextLength: 4096 }), {
      code: 'INVALID_ARGUMENT',
      message: /knows 128 positions/,
    })
  })
})

describe('a decoder', () => {
  let model
  before(async () => {
    model = await realm.load(bundledModel)
  })

  it('embeds with the state behind its last norm, by default that of the last token', async () => {
    const ids = model.tokenize('Once upon a time there was a fox. '.repeat(40)).slice(0, 300)
    let hidden = await model.embedTokens(ids)
    for (let layer = 0; layer < model.layerCount; layer++)
      hidden = await model.forwardLayer(layer, hidden)
    const { data: weight } = await model.tensor('output_norm.weight')
    const want = rows(hidden, model.hiddenSize).map((row) => {
      const scale = 1 / Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / row.length + 1e-5)
      return row.map((x, i) => x * scale * weight[i])
    })
    const got = await model.embed(ids, { pooling: 'none', normalize: false })
    rows(got, model.hiddenSize).forEach((row, i) => {
      assert.ok(distance(row, want[i]) < 1e-3, `row ${i}: ${distance(row, want[i])}`)
    })
    assert.equal(model.info.pooling, 'last')
    assert.deepEqual(await model.embed(ids, { normalize: false }), got.slice(-model.hiddenSize))
  })

  it('lets an answer through while it embeds, and ends when its signal says so', async () => {
    const controller = new AbortController()
    const texts = Array(2000).fill(new Uint32Array(500).fill(5))
    let isEmbedding = true
    const many = model.embed(texts, { signal: controller.signal })
    const settled = many
      .catch((error) => error)
      .finally(() => {
        isEmbedding = false
      })
    const answer = await model.generate('Once upon a time', { temperature: 0, maxTokens: 12 })
    assert.ok(answer.text.length > 0)
    assert.ok(isEmbedding, 'a million rows came before twelve')
    const reason = new Error('enough')
    controller.abort(reason)
    const error = await settled
    assert.equal(error.code, 'ABORTED')
    assert.equal(error.cause, reason)
    assert.equal((await model.embed('x')).length, model.info.embeddingSize)
  })

  it('still generates afterwards, and while it embeds', async () => {
    const options = { temperature: 0, maxTokens: 12 }
    const alone = await model.generate('Once upon a time', options)
    const [during] = await Promise.all([
      model.generate('Once upon a time', options),
      model.embed(Array.from({ length: 100 }, (_, i) => `Story number ${i}.`)),
    ])
    assert.equal(during.text, alone.text)
  })
})

describe('arguments of embed and rerank', () => {
  let model
  before(async () => {
    model = await realm.load(bundledModel)
  })
  const wrong = [
    ['a number', (m) => m.embed(5), /input/],
    ['a number in a list', (m) => m.embed(['a', 5]), /input\[1\]/],
    ['no tokens', (m) => m.embed(new Uint32Array(0)), /no tokens/],
    ['an id outside the vocabulary', (m) => m.embed(new Uint32Array([1e9])), /vocabulary/],
    ['an unknown pooling', (m) => m.embed('a', { pooling: 'max' }), /pooling/],
    ['an unknown option', (m) => m.embed('a', { normalise: true }), /normalise/],
    ['an unknown option of rerank', (m) => m.rerank('a', [], { topN: 1 }), /topN/],
    ['a query that is no string', (m) => m.rerank(1, []), /query/],
    ['documents that are no list', (m) => m.rerank('a', 'b'), /documents/],
    ['a document that is no string', (m) => m.rerank('a', [1]), /documents\[0\]/],
  ]
  for (const [what, call, message] of wrong) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(call(model), { code: 'INVALID_ARGUMENT', message })
    })
  }

  it('reject once the model was disposed of, or has no weights', async () => {
    const vocabulary = await realm.load(bundledModel, { vocabOnly: true })
    assert.equal(vocabulary.info.pooling, null)
    await assert.rejects(vocabulary.embed('a'), { code: 'INVALID_ARGUMENT', message: /vocabOnly/ })
    await vocabulary.dispose()
    await assert.rejects(vocabulary.embed('a'), { code: 'DISPOSED' })
  })
})
