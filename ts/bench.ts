/**
 * `realm bench`: how fast a model reads prompts and makes tokens here, and what share of the
 * memory's speed that is.
 */

import type { Model } from './model.js'

/** What to measure. */
export interface BenchOptions {
  /** Tokens of a measured prompt. */
  promptTokens: number
  /** Tokens made after it. */
  decodeTokens: number
  /** Tokens that are there before the prompt, for each measurement. */
  contexts: number[]
}

/** Rates with so many tokens before them. */
export interface BenchRates {
  context: number
  promptTokens: number
  /** Tokens per second. */
  promptRate: number
  decodeTokens: number
  /** Tokens per second. */
  decodeRate: number
  /** Bytes of weights read per second while decoding; those of keys and values are not in it. */
  decodeBytesPerSecond: number
  /** Of the memory bandwidth, in percent; null where it is not known. */
  percentOfMemory: number | null
}

/** Positions that a measurement needs. */
export function benchContextLength({ contexts, promptTokens, decodeTokens }: BenchOptions): number {
  return Math.max(...contexts) + promptTokens + decodeTokens + 1
}

/**
 * Measures a model that was loaded with `benchContextLength` positions. The prompts are arbitrary
 * ids: what they say does not change the work.
 *
 * @param memoryBytesPerSecond what the memory of the backend gives, or null
 */
export async function bench(
  model: Model,
  options: BenchOptions,
  memoryBytesPerSecond: number | null,
): Promise<BenchRates[]> {
  // Reads every weight, and whatever is put off until weights are used.
  await measure(model, 0, options)
  const rates: BenchRates[] = []
  for (const context of options.contexts) {
    const { promptRate, decodeRate } = await measure(model, context, options)
    const decodeBytesPerSecond = decodeRate * model.info.bytesPerToken
    rates.push({
      context,
      promptTokens: options.promptTokens,
      promptRate,
      decodeTokens: options.decodeTokens,
      decodeRate,
      decodeBytesPerSecond,
      percentOfMemory: memoryBytesPerSecond && (100 * decodeBytesPerSecond) / memoryBytesPerSecond,
    })
  }
  return rates
}

async function measure(model: Model, context: number, options: BenchOptions) {
  const { promptTokens, decodeTokens } = options
  const ids = arbitraryIds(context + promptTokens, model.vocabularySize)
  const settings = { temperature: 0, ignoreEos: true }
  const sequence = model.openSequence()
  try {
    if (context > 0)
      await model.generateIn(sequence, ids.subarray(0, context), { ...settings, maxTokens: 1 })
    const { timings } = await model.generateIn(sequence, ids, {
      ...settings,
      maxTokens: decodeTokens + 1,
    })
    return {
      promptRate: perSecond(timings.promptTokens, timings.promptMs),
      decodeRate: perSecond(timings.decodeTokens, timings.decodeMs),
    }
  } finally {
    model.closeSequence(sequence)
  }
}

/** The same ids each time; neighbours differ. */
function arbitraryIds(length: number, vocabularySize: number): Uint32Array {
  return Uint32Array.from({ length }, (_, i) => (i * 7919 + 11) % vocabularySize)
}

function perSecond(count: number, milliseconds: number): number {
  return (count * 1000) / milliseconds
}
