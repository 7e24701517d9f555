/**
 * Cases of kind `malformed`: a clear refusal, or a load that does no harm.
 */

import { RealmError } from '@realm-ai/realm'
import { withModel } from '../support/models.mjs'

const REFUSALS = ['MODEL_INVALID', 'MODEL_UNSUPPORTED']

/** Opens the file as a path and as bytes; the slower of the two is reported, in seconds. */
export async function malformed(kit, { file, expect, limits }) {
  const peakBefore = peakMegabytes()
  const attempts = [kit.path(file), kit.readModel(file)].map(
    (source) => () => attempt(source, kit.backend),
  )
  let worst = 0
  const outcomes = []
  for (const run of attempts) {
    const began = performance.now()
    outcomes.push(await withinTime(run(), limits.seconds))
    worst = Math.max(worst, (performance.now() - began) / 1000)
  }
  const grown = peakMegabytes() - peakBefore
  const wrong = outcomes.find((outcome) => !isAllowed(outcome, expect))
  const note =
    wrong === undefined
      ? grown > limits.resident_mb
        ? `memory grew by ${grown.toFixed(0)} MB`
        : outcomes[0].text
      : `${wrong.text}; expected: ${expect}`
  return {
    worst,
    bound: limits.seconds,
    pass: wrong === undefined && worst <= limits.seconds && grown <= limits.resident_mb,
    note,
  }
}

function isAllowed({ loaded, refused }, expect) {
  if (expect === 'loads') return loaded
  return expect === 'error-or-safe' ? loaded || refused : refused
}

/** Loads and, if that works, generates a few tokens to see that nothing breaks. */
async function attempt(source, backend) {
  try {
    const { tokens } = await withModel(
      source,
      (model) => model.generate([0], { temperature: 0, ignoreEos: true, maxTokens: 4 }),
      { backend },
    )
    return { loaded: tokens.length === 4, text: `loaded, generated ${tokens.length} tokens` }
  } catch (error) {
    if (!(error instanceof RealmError)) throw error
    return { refused: REFUSALS.includes(error.code), text: `${error.code}: ${error.message}` }
  }
}

async function withinTime(work, seconds) {
  let timer
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ text: `no answer in ${seconds} s` }), seconds * 1000)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The most memory this process ever held. */
function peakMegabytes() {
  return process.resourceUsage().maxRSS / 1024
}
