/**
 * Runs GGUF language models inside a JavaScript program.
 */

export * from './api.js'
export { type QuantizeReport, quantize } from './quantize.js'
