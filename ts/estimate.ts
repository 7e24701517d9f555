/**
 * What a model would take of memory, before anything of it is loaded.
 */

import type { Binding, BindingMemory, BindingProgress } from './binding.js'
import { listen, runFor } from './callers.js'
import { guarded, guardedAsync } from './errors.js'
import { type readEstimateOptions, toBindingLoad } from './options.js'
import { resolveSource } from './platform.js'
import type { ModelSource } from './sources/model-source.js'

/** Bytes that a model would take, and what for: the same as `info.memory` of a load like it. */
export interface MemoryEstimate extends Readonly<BindingMemory> {
  /** The backend that it is for; '' with `vocabOnly`, which takes none of this. */
  readonly backend: string
  /** How matrices would be kept; null with `vocabOnly`. */
  readonly layout: 'mapped' | 'packed' | null
  /** Positions per sequence. */
  readonly contextLength: number
  /** Sequences that can be at full length at once. */
  readonly maxSequences: number
}

/** Fetches the source as a load does, and asks the engine. */
export async function estimate(
  binding: Binding,
  source: ModelSource,
  options: ReturnType<typeof readEstimateOptions>,
): Promise<MemoryEstimate> {
  return runFor('estimating', options, async (caller) => {
    const opened = await resolveSource(source, { ...options, ...caller })
    const onFetch = (progress: BindingProgress) => {
      if (typeof progress === 'number') return
      if ('level' in progress) options.logger?.(progress)
      else caller.onProgress?.(progress)
    }
    try {
      const settings = toBindingLoad(options, options, Number.POSITIVE_INFINITY)
      const estimation = guarded(() => binding.estimate(opened.source, settings, onFetch))
      listen(caller.signal, () => estimation.abort?.())
      const { memory, ...what } = await guardedAsync(() => estimation.estimate)
      return Object.freeze({ ...memory, ...what })
    } finally {
      opened.release()
    }
  })
}
