/**
 * The conformance kit, case by case. `SUPPORTED` says what must be there: a case
 * that it names may not be missing.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { openKit } from './conformance/kit.mjs'
import { kinds, runCase } from './conformance/run.mjs'
import { conformanceKit } from './support/models.mjs'

const SUPPORTED = [
  /^logits\/(llama|llama-spm-tied|qwen2|qwen3|gemma2|gemma3|phi3)$/,
  /^quant-logits\/llama-(F16|Q4_0|Q8_0|Q2_K|Q3_K_M|Q4_K_M|Q5_K_M|Q6_K)$/,
  /^tokenizer\/(llama-spm|llama-bpe|qwen2|gpt-2|phi-3)$/,
  /^template\//,
  /^malformed\//,
  /^(embed|embedding|dequant)\//,
]

const kit = openKit(conformanceKit())

for (const kind of kinds) {
  describe(`conformance: ${kind}`, () => {
    for (const entry of kit.cases.filter((candidate) => candidate.kind === kind)) {
      it(entry.id, async (t) => {
        const result = await runCase(kit, entry)
        t.diagnostic(`worst ${result.worst} of ${result.bound}`)
        const isPromised = SUPPORTED.some((pattern) => pattern.test(entry.id))
        if (isPromised) assert.equal(result.status, 'pass', result.note)
        else assert.notEqual(result.status, 'fail', result.note)
      })
    }
  })
}
