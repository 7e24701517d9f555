/**
 * Threads for the engine: further workers that run the same module on the same memory.
 */

import { type Instance, startEngine } from './engine.js'
import type { LendRequest } from './protocol.js'

/** More do not pay: hardware threads share cores, and browsers count them. */
const MOST_THREADS = 8

/**
 * How long threads may take to arrive before the model is loaded without them. A busy machine may
 * need seconds; those that cannot start at all say so at once.
 */
const PATIENCE_MS = 10_000

/** Starts workers until a model can have `threads` with the caller's own; 0 is the browser's choice. */
export async function startThreads(
  { engine, raw }: Instance,
  module: WebAssembly.Module,
  threads: number,
): Promise<void> {
  const wanted = threads || Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
  const lend: LendRequest = { type: 'lend', build: 'threads', module, memory: raw.memory }
  let failed = 0
  for (let i = 1; i < wanted; i++) {
    // This worker's own script: whatever a bundler or a bootstrap made of its address.
    const worker = new Worker(self.location.href, { type: 'module', name: 'realm-thread' })
    worker.onerror = () => {
      failed += 1
    }
    worker.postMessage(lend)
  }
  const deadline = performance.now() + PATIENCE_MS
  while ((engine.threads?.() ?? wanted) < wanted - failed && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 2))
}

/** Becomes a thread. Does not return: the worker that started this one ends it. */
export async function lendThread({ build, module, memory }: LendRequest): Promise<void> {
  const { engine } = await startEngine(build, module, memory)
  engine.lendThread?.()
}
