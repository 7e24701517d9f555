/**
 * Runs cases of the conformance kit. What a case of some kind means is in the
 * file of that kind; which models are supported is for the engine to say: those it
 * refuses with MODEL_UNSUPPORTED are missing, and so are cases of another kind.
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

/**
 * @returns { id, kind, status, worst, bound, note }, where status is 'pass', 'fail' or 'missing'
 */
export async function runCase(kit, entry) {
  const { id, kind } = entry
  try {
    if (!Object.hasOwn(KINDS, kind)) {
      return notRun(
        entry,
        'missing',
        `kind ${kind} is not one of: ${Object.keys(KINDS).join(', ')}`,
      )
    }
    const { pass, ...measured } = await KINDS[kind](kit, entry)
    return { id, kind, status: pass ? 'pass' : 'fail', ...measured }
  } catch (error) {
    if (!(error instanceof RealmError)) return notRun(entry, 'fail', error.stack)
    const status = error.code === 'MODEL_UNSUPPORTED' ? 'missing' : 'fail'
    return notRun(entry, status, `${error.code}: ${error.message}`)
  }
}

function notRun({ id, kind }, status, note) {
  return { id, kind, status, worst: null, bound: null, note }
}
