/**
 * Runs GGUF language models inside a page.
 */

export * from '../api.js'
