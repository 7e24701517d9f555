/**
 * The bundled model, in each of its storage types, beside llama.cpp and transformers.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import {
  bundledModel,
  GREEDY,
  layerLogits,
  referenceFile,
  topGap,
  withModel,
} from './support/models.mjs'

const expected = JSON.parse(readFileSync(referenceFile('expected.json'), 'utf8'))

/**
 * Whose answers, on which file, and how far two correct engines can be apart there.
 *
 * `logit` bounds the difference of one logit: transformers computes in f32 as the CPU backend
 * does; llama.cpp keeps keys and values in f16, and both round activations to 8 bits where
 * weights are quantised, each in its own order. Where the two best logits are closer than
 * `gap`, either token may win.
 */
const REFERENCES = [
  { reference: 'transformers', file: 'f16', logit: 1e-4, gap: 1e-4 },
  { reference: 'f16', file: 'f16', logit: 0.01, gap: 0.005 },
  { reference: 'Q8_0', file: 'Q8_0', logit: 0.2, gap: 0.05 },
  { reference: 'Q4_K_M', file: 'Q4_K_M', logit: 0.3, gap: 0.08 },
]

describe('the bundled model', () => {
  it('is the Q8_0 file of the reference models', () => {
    const reference = readFileSync(referenceFile(expected.files.Q8_0.name))
    assert.ok(reference.equals(readFileSync(bundledModel)))
  })
})

for (const { reference, file, logit, gap: closest } of REFERENCES) {
  const { name } = expected.files[file]
  const source = reference === 'transformers' ? reference : 'llama.cpp'

  describe(`${name} beside ${source}`, () => {
    for (const { id, messages, prompt, prompt_ids: ids, greedy } of expected.prompts) {
      const want = greedy[reference]

      it(`has the same best first logits: ${id}`, (t) =>
        withModel(referenceFile(name), async (model) => {
          const row = (await layerLogits(model, ids)).at(-1)
          const far = Math.max(
            ...want.first_top5.map(([token, value]) => Math.abs(row[token] - value)),
          )
          t.diagnostic(`differs by up to ${far.toPrecision(2)}`)
          assert.ok(far <= logit, `differs by ${far}`)
        }))

      it(`gives the same greedy answer: ${id}`, (t) =>
        withModel(referenceFile(name), async (model) => {
          assert.deepEqual([...model.tokenize(prompt, { parseSpecial: true })], ids)
          const options = { ...GREEDY, maxTokens: 256 }
          const answer = messages
            ? await model.chat(messages, options)
            : await model.generate(prompt, options)
          assert.equal(answer.usage.promptTokens, ids.length)
          const got = [...answer.tokens]
          const wanted = withoutEnd(want.ids, model)
          const at = firstDifference(got, wanted)
          if (at === -1) {
            assert.equal(answer.text, want.text)
            assert.equal(answer.finishReason, want.ended ? 'stop' : 'length')
            return
          }
          const path = [...ids, ...wanted.slice(0, at)]
          const gap = topGap((await layerLogits(model, path)).at(-1))
          t.diagnostic(`differs from token ${at} on, where the gap is ${gap.toPrecision(3)}`)
          assert.ok(
            gap < closest,
            `token ${at} is ${got[at]}, expected ${wanted[at]}, with a gap of ${gap}`,
          )
        }))
    }
  })
}

/** The reference keeps the token that ended the answer; a result does not. */
function withoutEnd(ids, model) {
  const isEnd = model.info.endOfGenerationTokens.includes(ids.at(-1))
  return isEnd ? ids.slice(0, -1) : ids
}

/** Index of the first difference, or -1. */
function firstDifference(a, b) {
  const length = Math.max(a.length, b.length)
  return Array.from({ length }).findIndex((_, i) => a[i] !== b[i])
}
