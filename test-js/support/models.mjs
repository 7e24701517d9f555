/**
 * Where the tests find their models, and the slow and obvious way through one.
 */

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Realm } from '@realm-ai/realm'

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** The model that the repository brings along. */
export const bundledModel = join(root, 'examples', 'models', 'realm-tiny-stories-Q8_0.gguf')

/** Folder of the conformance kit: REALM_CONFORMANCE_KIT, else beside the checkout. */
export function conformanceKit() {
  return existing(process.env.REALM_CONFORMANCE_KIT ?? join(root, '..', 'shared', 'conformance'))
}

/** A file of the folder of reference models, which lies beside the kit. */
export function referenceFile(name) {
  return existing(join(conformanceKit(), '..', 'models', name))
}

function existing(path) {
  if (existsSync(path)) return path
  throw new Error(`${path} is missing: set REALM_CONFORMANCE_KIT to the conformance kit's folder`)
}

/**
 * Loads a model, hands it to `use`, and disposes of it whatever happens.
 *
 * @param options load options, and `backend`: the only one to use, where it is given
 */
export async function withModel(source, use, { backend, ...options } = {}) {
  const realm = await Realm.create(backend === undefined ? {} : { backend, fallback: [] })
  const model = await realm.load(source, options)
  try {
    return await use(model)
  } finally {
    await realm.dispose()
  }
}

/**
 * Runs all layers over `ids` and gives the logits of each position, one row per id.
 *
 * @param position position of the first id
 * @param sequence layer-level sequence that the ids continue
 */
export async function layerLogits(model, ids, { position = 0, sequence = 0 } = {}) {
  let hidden = await model.embedTokens(ids, { position })
  for (let layer = 0; layer < model.layerCount; layer++) {
    hidden = await model.forwardLayer(layer, hidden, { position, sequence })
  }
  const logits = await model.computeLogits(hidden)
  return rows(logits, model.vocabularySize)
}

/** Cuts a matrix into its rows, without copying. */
export function rows(values, width) {
  return Array.from({ length: values.length / width }, (_, i) =>
    values.subarray(i * width, (i + 1) * width),
  )
}

/** Index of the largest value; the first one of equals. */
export function argmax(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0)
}

/** Distance between the two largest values. */
export function topGap(values) {
  const best = argmax(values)
  let second = Number.NEGATIVE_INFINITY
  for (let i = 0; i < values.length; i++) {
    if (i !== best && values[i] > second) second = values[i]
  }
  return values[best] - second
}

/** Greedy answer settings: nothing is left to chance. */
export const GREEDY = Object.freeze({ temperature: 0 })
