/**
 * One measurement in a process of its own: `node measure.mjs ENGINE JOB`.
 *
 * JOB is JSON: what the engine's `open` takes, `promptTokens` and `decodeTokens`.
 * Prints the figures as one line of JSON. The clock is the
 * same for all engines: it runs in JavaScript, where a user of them would wait.
 */

import { cpus } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { fillRandom, seedOf } from './tensor-types.mjs'

/** Special tokens and bytes come first in the vocabularies of `models.mjs`. */
const FIRST_WORD_ID = 259
const FIRST_ANSWER_PROMPT_TOKENS = 16
/** A process that uses less than this share of one core has nothing left to do. */
const REST_CORES = 0.05
const REST_INTERVAL_MS = 100

const [engineName, jobText] = process.argv.slice(2)
const job = JSON.parse(jobText)
const { open, version } = await import(`./engines/${engineName}.mjs`)

const beforeLoad = performance.now()
const engine = await open(job)
const loadMs = performance.now() - beforeLoad

// Reads every weight once: what an engine puts off until it is needed counts here, not below.
const first = await timeAnswer(randomIds('first answer', FIRST_ANSWER_PROMPT_TOKENS), 2)
await rest()
const restMs = performance.now() - beforeLoad
const residentBytes = process.memoryUsage.rss()
const usageBefore = cpuUsage()
const answer = await timeAnswer(randomIds('prompt', job.promptTokens), 1 + job.decodeTokens)
const usageAfter = cpuUsage()

console.log(
  JSON.stringify({
    version,
    loadMs,
    firstAnswerMs: loadMs + first.firstTokenMs,
    restMs,
    residentBytes,
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    promptRate: (job.promptTokens / answer.firstTokenMs) * 1000,
    decodeRate: (job.decodeTokens / answer.decodeMs) * 1000,
    otherCores: (usageAfter.others - usageBefore.others) / (usageAfter.wallMs - usageBefore.wallMs),
    tokens: answer.tokens,
  }),
)
await engine.close()

/** Time to the first token, and from there to the last. */
async function timeAnswer(ids, nTokens) {
  const began = performance.now()
  const tokens = []
  let firstTokenMs
  let endedMs
  for await (const more of engine.generate(ids, nTokens)) {
    tokens.push(...more)
    endedMs = performance.now() - began
    firstTokenMs ??= endedMs
  }
  if (tokens.length !== nTokens) {
    throw new Error(`${engineName} made ${tokens.length} tokens, expected ${nTokens}`)
  }
  return { tokens, firstTokenMs, decodeMs: endedMs - firstTokenMs }
}

/** Waits while the process works on in the background. */
async function rest() {
  let usedMs
  do {
    const before = process.cpuUsage()
    await setTimeout(REST_INTERVAL_MS)
    const { user, system } = process.cpuUsage(before)
    usedMs = (user + system) / 1000
  } while (usedMs > REST_CORES * REST_INTERVAL_MS)
}

/** The same ids for every engine; two prompts differ from their first token on. */
function randomIds(name, length) {
  const words = new Uint32Array(length)
  fillRandom(words, seedOf(name))
  const nWords = engine.vocabularySize - FIRST_WORD_ID
  return Array.from(words, (word) => FIRST_WORD_ID + (word % nWords))
}

/** Milliseconds of CPU that all other processes have used so far. */
function cpuUsage() {
  const { user, system } = process.cpuUsage()
  let all = 0
  for (const { times } of cpus()) all += times.user + times.nice + times.sys + times.irq
  return { wallMs: performance.now(), others: all - (user + system) / 1000 }
}
