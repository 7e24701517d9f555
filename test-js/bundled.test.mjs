/**
 * The bundled model against answers that llama.cpp gave on the same files.
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
 * How far two correct engines can be apart in a logit of these files: llama.cpp keeps keys and
 * values in f16 and rounds activations to 8 bits. Where the two best logits are closer, either
 * token may win. (Between llama.cpp's own answers on these files and the exact ones, the
 * best five logits of the first step differ by up to 0.05.)
 */
const ROUNDING = { f16: 0.02, Q8_0: 0.05, Q4_K_M: 0.1 }

describe('the bundled model', () => {
  it('is the Q8_0 file of the reference models', () => {
    const reference = readFileSync(referenceFile(expected.files.Q8_0.name))
    assert.ok(reference.equals(readFileSync(bundledModel)))
  })
})

for (const [kind, { name }] of Object.entries(expected.files)) {
  describe(`greedy answers of ${name}`, () => {
    for (const { id, messages, prompt, prompt_ids: ids, greedy } of expected.prompts) {
      const want = greedy[kind]
      it(`equal llama.cpp's: ${id}`, (t) =>
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
          const logits = (await layerLogits(model, path)).at(-1)
          const gap = topGap(logits)
          t.diagnostic(`differs from token ${at} on, where the gap is ${gap.toPrecision(3)}`)
          assert.ok(
            gap < ROUNDING[kind],
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
