/**
 * Runs cases of the conformance kit. What a case of some kind means is in the
 * file of that kind; which models are supported is for the engine to say: it
 * refuses the others with MODEL_UNSUPPORTED, and they count as missing.
 */

import { RealmError } from '@realm-ai/realm'
import { dequant } from './dequant.mjs'
import { embedding } from './embedding.mjs'
import { logits, quantLogits } from './logits.mjs'
import { malformed } from './malformed.mjs'
import { chatTemplate, tokenizer } from './text.mjs'

/** How to run a case, by kind. */
const KINDS = {
  logits,
  'quant-logits': quantLogits,
  tokenizer,
  'chat-template': chatTemplate,
  malformed,
  embedding,
  dequant,
}

/** Kinds that this suite runs. */
export const kinds = Object.keys(KINDS)

/**
 * @returns { id, kind, status, worst, bound, note }, where status is 'pass', 'fail' or 'missing'
 */
export async function runCase(kit, entry) {
  const { id, kind } = entry
  try {
    const { pass, ...measured } = await KINDS[kind](kit, entry)
    return { id, kind, status: pass ? 'pass' : 'fail', ...measured }
  } catch (error) {
    const isMissing = error instanceof RealmError && error.code === 'MODEL_UNSUPPORTED'
    const note = error instanceof RealmError ? `${error.code}: ${error.message}` : error.stack
    return { id, kind, status: isMissing ? 'missing' : 'fail', worst: null, bound: null, note }
  }
}
