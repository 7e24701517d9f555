/** Options that all benches of whole models take. */

import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { modelFile } from './models.mjs'

/** For `parseArgs`; explained in README.md. */
export const RUN_OPTIONS = {
  model: { type: 'string' },
  threads: { type: 'string', default: String(availableParallelism()) },
  decode: { type: 'string', default: '64' },
  rounds: { type: 'string', default: '5' },
  layout: { type: 'string' },
  record: { type: 'boolean', default: false },
}

/** The options with their values checked; `jobFor` takes the prompt's length and makes a job for `runRounds`. */
export async function readRunOptions(values) {
  if (values.model === undefined) refuse('--model FILE or --model SHAPE:TYPE is missing')
  const path = existsSync(values.model)
    ? values.model
    : await modelFile(values.model).catch((error) => refuse(error.message))
  const decodeTokens = count('decode', values.decode)
  const threads = count('threads', values.threads)
  const loadOptions = values.layout === undefined ? {} : { layout: values.layout }
  const jobFor = (promptTokens) => ({
    path,
    threads,
    promptTokens,
    decodeTokens,
    contextLength: promptTokens + decodeTokens + 1,
    loadOptions,
  })
  return { path, threads, decodeTokens, nRounds: count('rounds', values.rounds), jobFor }
}

/** A whole number above 0. */
export function count(name, text) {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  refuse(`--${name} is ${text}, expected a whole number above 0`)
}

function refuse(message) {
  console.error(`${message}; see benches/README.md`)
  process.exit(2)
}
