/**
 * Quantising: a model file written again with smaller types.
 */

import type { BindingReport } from './binding.js'
import { listen, runFor } from './callers.js'
import { guarded, guardedAsync } from './errors.js'
import { loadBinding } from './load-binding.js'
import { type QuantizeOptions, readQuantizeOptions } from './options.js'
import { invalid } from './validate.js'

/** What became of each tensor, and how large the files are. */
export type QuantizeReport = BindingReport

/**
 * Writes the model at `input` to `output` with the types of a mix. Nothing is left when it
 * fails or is stopped; a file that was there before is replaced only by a whole one. What stops it
 * when all is done comes too late for that: the call rejects, and the new file is there.
 *
 * Until it is whole, the file is called `output` with `.<16 digits>.partial` behind. Only a process
 * that is ended from outside leaves that; the next call with the same `output` removes it.
 *
 * @param input path of a GGUF file, of F32, F16 or BF16 tensors unless `allowRequantize`
 * @param output path of the new file; a symbolic link stays, and the file behind it is written
 * @param mix such as 'Q4_K_M' or 'IQ3_XS'; an unknown one names them all in its error
 * @throws RealmError INVALID_ARGUMENT  an argument is wrong, or the mix needs an importance matrix
 * @throws RealmError MODEL_NOT_FOUND, MODEL_INVALID, MODEL_UNSUPPORTED  the input; MODEL_INVALID too
 *   for a value that is not finite, or would not be in its new type (1e30 in F16)
 * @throws RealmError STORAGE_FULL      there is no room for the output
 * @throws RealmError WRITE_FAILED      the output cannot be written, or is no regular file
 * @throws RealmError ABORTED           the signal was aborted, or onProgress threw
 */
export async function quantize(
  input: string,
  output: string,
  mix: string,
  options?: QuantizeOptions,
): Promise<QuantizeReport> {
  for (const [name, value] of Object.entries({ input, output, mix })) {
    if (typeof value !== 'string') throw invalid(name, 'a string', value)
  }
  const { imatrix, threads, allowRequantize, ...caller } = readQuantizeOptions(options)
  const settings = { mix, imatrix: imatrix ?? null, threads, allowRequantize }
  return runFor('quantizing', caller, async ({ signal, onProgress }) => {
    const work = guarded(() => loadBinding().quantize(input, output, settings, onProgress ?? null))
    listen(signal, () => work.abort())
    return guardedAsync(() => work.report)
  })
}
