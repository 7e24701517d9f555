/**
 * The flat synchronous API, for loops of one's own: models are numbers, every
 * call waits for its result. It blocks the thread it is called on; in a server,
 * call it from a worker.
 *
 * Token ids and activations may be typed arrays, plain arrays, or Buffers with
 * the raw little-endian bytes of u32 and f32 values; what is returned is always
 * a Float32Array. Errors are RealmErrors.
 */

import { type Activations, type TokenIds, toActivations, toTokenIds } from './arrays.js'
import type { BindingModel } from './binding.js'
import { guarded } from './errors.js'
import { loadBinding, type NativeBinding } from './load-binding.js'
import type { ModelInfo } from './model.js'
import { type LoadOptions, type RealmOptions, readStoreOptions, toBindingLoad } from './options.js'
import { invalid, reading, requireInteger, requireString } from './validate.js'

export type { Activations, TokenIds } from './arrays.js'
export { RealmError, type RealmErrorCode } from './errors.js'
export type { ModelInfo } from './model.js'

/** Options of `storeModel`: those of both `Realm.create` and `realm.load` that make sense here. Adapters are paths. */
export type StoreOptions = Pick<
  LoadOptions,
  'contextLength' | 'maxSequences' | 'kvCacheType' | 'layout' | 'lora'
> &
  Pick<RealmOptions, 'backend' | 'fallback' | 'device' | 'threads'>

const models = new Map<number, BindingModel>()
let lastId = 0

/**
 * Loads a model and keeps it until `removeModel`.
 *
 * @param bytesOrPath path of a GGUF file, or its bytes, which are copied
 * @returns the number that names the model in the other calls
 * @throws RealmError MODEL_NOT_FOUND, MODEL_INVALID, MODEL_UNSUPPORTED
 */
export function storeModel(bytesOrPath: Uint8Array | string, given?: StoreOptions): number {
  const isSource = () => typeof bytesOrPath === 'string' || bytesOrPath instanceof Uint8Array
  if (!reading('bytesOrPath', isSource))
    throw invalid('bytesOrPath', 'a path or the bytes of a GGUF file', bytesOrPath)
  const options = readStoreOptions(given)
  const settings = toBindingLoad(options, options, Number.POSITIVE_INFINITY)
  const model = guarded(() => loadBinding().storeModelSync(bytesOrPath, settings))
  try {
    guarded(() => setLora(model, options.lora))
  } catch (error) {
    loadBinding().disposeSync(model)
    throw error
  }
  models.set(++lastId, model)
  return lastId
}

/** Loads the adapters that a model runs with. */
function setLora(model: BindingModel, lora: { item: string; scale: number }[]): void {
  const uses = lora.map(({ item: path, scale }) => {
    return { adapter: loadBinding().loadAdapterSync(model, path).id, scale }
  })
  if (uses.length > 0) model.setLora(uses)
}

/**
 * Looks up tokens: the input of the first layer.
 *
 * @param position position of the first token; counts for models with learned positions alone
 * @returns activations [tokens, hiddenSize]
 * @throws RealmError INVALID_ARGUMENT  an id is not in the vocabulary
 * @throws RealmError KV_EXHAUSTED      the model has learned positions, and the context ends before
 */
export function embedTokens(modelId: number, tokenIds: TokenIds, position = 0): Float32Array {
  requireInteger('position', position, 0)
  const ids = toTokenIds('tokenIds', tokenIds)
  return call(modelId, (binding, model) => binding.embedTokensSync(model, ids, position))
}

/**
 * Runs one transformer block and writes the keys and values of its rows to the KV cache.
 *
 * @param layerIdx     0 <= layerIdx < layerCount
 * @param hiddenStates activations [tokens, hiddenSize]; not modified
 * @param position     position of the first row
 * @param sequenceId   whose keys and values to use; any number of one's own choice
 * @returns new activations of the same shape
 * @throws RealmError SHAPE_MISMATCH, INVALID_ARGUMENT, KV_EXHAUSTED
 */
export function forwardLayer(
  modelId: number,
  layerIdx: number,
  hiddenStates: Activations,
  position: number,
  sequenceId = 0,
): Float32Array {
  requireInteger('layerIdx', layerIdx, 0)
  requireInteger('position', position, 0)
  requireInteger('sequenceId', sequenceId, 0)
  const hidden = toActivations('hiddenStates', hiddenStates)
  return call(modelId, (binding, model) =>
    binding.forwardLayerSync(model, layerIdx, hidden, position, sequenceId),
  )
}

/**
 * Runs the output norm and the head.
 *
 * @param hiddenState activations [tokens, hiddenSize] that the last block gave
 * @returns logits [tokens, vocabularySize]
 * @throws RealmError SHAPE_MISMATCH  hiddenState is not whole rows of hiddenSize
 */
export function computeLogits(modelId: number, hiddenState: Activations): Float32Array {
  const hidden = toActivations('hiddenState', hiddenState)
  return call(modelId, (binding, model) => binding.computeLogitsSync(model, hidden))
}

/**
 * A weight by its GGUF name, dequantised, the first dimension contiguous.
 *
 * @throws RealmError INVALID_ARGUMENT  no tensor has this name
 */
export function getTensor(modelId: number, name: string): Float32Array {
  requireString('name', name)
  return call(modelId, (binding, model) => binding.tensorSync(model, name).data)
}

/** What the model is and how it was loaded. */
export function getModelInfo(modelId: number): ModelInfo {
  return call(modelId, (_, model) => model.info())
}

/** Frees a model. Its number is not used again. */
export function removeModel(modelId: number): void {
  call(modelId, (binding, model) => binding.disposeSync(model))
  models.delete(modelId)
}

function call<T>(modelId: number, run: (binding: NativeBinding, model: BindingModel) => T): T {
  const model = models.get(modelId)
  if (model === undefined) throw invalid('modelId', 'a number that storeModel gave', modelId)
  return guarded(() => run(loadBinding(), model))
}
