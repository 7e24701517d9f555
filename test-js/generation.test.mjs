/**
 * A Generation over a scripted engine: what happens in which order is up to the test.
 */

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'

const require = createRequire(import.meta.url)
const { Generation } = require('../dist/generation.js')

const RESULT = {
  text: 'abc',
  tokens: Uint32Array.of(1, 2, 3),
  finishReason: 'stop',
  stopText: null,
  promptTokens: 5,
  cachedTokens: 2,
  completionTokens: 3,
  seed: 7,
  promptMs: 1,
  firstTokenMs: 2,
  decodeMs: 3,
}

/** A generation whose events the test sends. */
function scripted({ signal, maxBuffered = 64 } = {}) {
  const engine = { aborts: 0, starts: 0, allowed: [], settled: [] }
  const generation = new Generation({
    start: (onEvent) => {
      engine.starts++
      engine.chunk = (text, index) =>
        onEvent({ type: 'chunk', chunk: { text, tokens: Uint32Array.of(index + 1), index } })
      engine.end = (changes) => onEvent({ type: 'end', result: { ...RESULT, ...changes } })
      engine.fail = (code) =>
        onEvent({ type: 'error', error: Object.assign(new Error('it broke'), { code }) })
      return {
        abort: () => {
          engine.aborts++
        },
        allow: (tokens) => engine.allowed.push(tokens),
      }
    },
    signal,
    loadMs: 4,
    maxBuffered,
    onSettled: (result) => engine.settled.push(result),
  })
  return { engine, generation }
}

async function texts(generation) {
  const all = []
  for await (const chunk of generation) all.push(chunk.text)
  return all
}

describe('a generation', () => {
  it('can be awaited without being iterated', async () => {
    const { engine, generation } = scripted()
    engine.chunk('a', 0)
    engine.end()
    const result = await generation
    assert.equal(result.text, 'abc')
    assert.deepEqual(result.usage, {
      promptTokens: 5,
      completionTokens: 3,
      totalTokens: 8,
      cachedTokens: 2,
    })
    assert.equal(result.timings.promptTokens, 3, 'cached tokens were not read')
    assert.equal(result.timings.loadMs, 4)
  })

  it('gives chunks as they arrive, and the result after iterating', async () => {
    const { engine, generation } = scripted()
    const iterator = generation[Symbol.asyncIterator]()
    const first = iterator.next()
    engine.chunk('a', 0)
    assert.equal((await first).value.text, 'a')
    engine.chunk('b', 1)
    assert.equal((await iterator.next()).value.text, 'b')
    engine.end()
    assert.equal((await iterator.next()).done, true)
    assert.equal((await iterator.next()).done, true)
    assert.equal((await generation).finishReason, 'stop')
  })

  it('can be iterated after it was awaited, and more than once', async () => {
    const { engine, generation } = scripted()
    for (const [i, text] of ['a', 'b', 'c'].entries()) engine.chunk(text, i)
    engine.end()
    await generation
    assert.deepEqual(await texts(generation), ['a', 'b', 'c'])
    assert.deepEqual(await Promise.all([texts(generation), texts(generation)]), [
      ['a', 'b', 'c'],
      ['a', 'b', 'c'],
    ])
  })

  it('serves several iterations at once, each from the first chunk', async () => {
    const { engine, generation } = scripted()
    const early = texts(generation)
    engine.chunk('a', 0)
    await turn()
    const late = texts(generation)
    engine.chunk('b', 1)
    engine.end()
    assert.deepEqual(await Promise.all([early, late]), [
      ['a', 'b'],
      ['a', 'b'],
    ])
  })

  it('answers calls of next that do not wait for each other in order', async () => {
    const { engine, generation } = scripted()
    const iterator = generation[Symbol.asyncIterator]()
    const calls = [iterator.next(), iterator.next(), iterator.next()]
    engine.chunk('a', 0)
    engine.chunk('b', 1)
    engine.end()
    const results = await Promise.all(calls)
    assert.deepEqual(
      results.map(({ done, value }) => (done ? 'done' : value.text)),
      ['a', 'b', 'done'],
    )
  })

  it('is aborted by breaking out of the only iteration, which waits for the end', async () => {
    const { engine, generation } = scripted()
    engine.chunk('a', 0)
    let left = false
    const loop = (async () => {
      for await (const _ of generation) break
      left = true
    })()
    await turn()
    assert.equal(engine.aborts, 1)
    assert.equal(left, false)
    engine.end({ finishReason: 'abort' })
    await loop
    assert.equal((await generation).finishReason, 'abort')
  })

  it('goes on when one of two iterations is left', async () => {
    const { engine, generation } = scripted()
    const whole = texts(generation)
    engine.chunk('a', 0)
    for await (const _ of generation) break
    assert.equal(engine.aborts, 0)
    engine.chunk('b', 1)
    engine.end()
    assert.deepEqual(await whole, ['a', 'b'])
  })

  it('is not aborted by leaving an iteration after it has ended', async () => {
    const { engine, generation } = scripted()
    engine.chunk('a', 0)
    engine.end()
    for await (const _ of generation) break
    assert.equal(engine.aborts, 0)
  })

  it('is allowed more tokens as the iteration that has read most reads on', async () => {
    const { engine, generation } = scripted({ maxBuffered: 4 })
    for (const i of [0, 1, 2, 3]) engine.chunk('a', i)
    const [first, second] = [1, 2].map(() => generation[Symbol.asyncIterator]())
    await first.next()
    assert.deepEqual(engine.allowed, [], 'not for every token')
    await first.next()
    assert.deepEqual(engine.allowed, [6])
    for (let i = 0; i < 3; i++) await second.next()
    assert.deepEqual(engine.allowed, [6])
    await second.next()
    assert.deepEqual(engine.allowed, [6, 8])
    engine.end()
    await generation
    assert.deepEqual(engine.allowed, [6, 8], 'it has ended')
  })

  it('is allowed one token after the other when no more may wait', async () => {
    const { engine, generation } = scripted({ maxBuffered: 1 })
    const iterator = generation[Symbol.asyncIterator]()
    for (const i of [0, 1, 2]) {
      engine.chunk('a', i)
      await iterator.next()
    }
    assert.deepEqual(engine.allowed, [2, 3, 4])
    engine.end()
  })

  it('is allowed all tokens once somebody waits for its end', async () => {
    for (const wait of ['then', 'catch', 'finally']) {
      const { engine, generation } = scripted()
      const waiting = generation[wait](() => {})
      assert.deepEqual(engine.allowed, [Number.POSITIVE_INFINITY], wait)
      generation.then(() => {})
      assert.equal(engine.allowed.length, 1)
      engine.end()
      await waiting
    }
  })

  it('is aborted when it is disposed of, which waits for the end', async () => {
    const { engine, generation } = scripted()
    let isDone = false
    const disposed = generation[Symbol.asyncDispose]().then(() => {
      isDone = true
    })
    await turn()
    assert.deepEqual([engine.aborts, isDone], [1, false])
    engine.end({ finishReason: 'abort' })
    await disposed
    const failed = scripted()
    failed.engine.fail('INTERNAL')
    await failed.generation[Symbol.asyncDispose]()
  })

  it('passes an abort of its signal on, and stops listening when it has ended', async () => {
    const controller = new AbortController()
    const { engine, generation } = scripted({ signal: controller.signal })
    controller.abort()
    assert.equal(engine.aborts, 1)
    engine.end({ finishReason: 'abort' })
    await generation
    const second = new AbortController()
    const after = scripted({ signal: second.signal })
    after.engine.end()
    await after.generation
    second.abort()
    assert.equal(after.engine.aborts, 0)
  })

  it('never starts when its signal was aborted before', async () => {
    const { engine, generation } = scripted({ signal: AbortSignal.abort() })
    const result = await generation
    assert.equal(engine.starts, 0)
    assert.equal(result.finishReason, 'abort')
    assert.equal(result.text, '')
    assert.equal(result.tokens.length, 0)
    assert.deepEqual(await texts(generation), [])
  })

  it('rejects and ends iterations with the same RealmError', async () => {
    const { engine, generation } = scripted()
    engine.chunk('a', 0)
    engine.fail('KV_EXHAUSTED')
    const seen = []
    await assert.rejects(
      async () => {
        for await (const chunk of generation) seen.push(chunk.text)
      },
      { name: 'RealmError', code: 'KV_EXHAUSTED' },
    )
    assert.deepEqual(seen, ['a'], 'what came before the error is still delivered')
    await assert.rejects(generation, { name: 'RealmError', code: 'KV_EXHAUSTED' })
    assert.deepEqual(engine.settled, [null])
  })

  it('calls what it finds unknown an internal error', async () => {
    const { engine, generation } = scripted()
    engine.fail('ENOENT')
    await assert.rejects(generation, { code: 'INTERNAL', message: 'it broke' })
  })
})

describe('an error that', () => {
  /** Runs `listen` on a failing generation and says whether the process heard of the error. */
  async function isUnhandled(listen) {
    let unhandled = 0
    const count = () => unhandled++
    const others = process.listeners('unhandledRejection')
    process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', count)
    const { engine, generation } = scripted()
    const listening = listen(generation)
    engine.fail('INTERNAL')
    await listening
    await turn()
    await turn()
    process.off('unhandledRejection', count)
    for (const listener of others) process.on('unhandledRejection', listener)
    return unhandled > 0
  }

  it('nobody listens to is an unhandled rejection', async () => {
    assert.equal(await isUnhandled(() => {}), true)
  })

  it('an iteration reports is no unhandled rejection', async () => {
    assert.equal(await isUnhandled((generation) => texts(generation).catch(() => {})), false)
  })

  it('an await reports is no unhandled rejection', async () => {
    assert.equal(await isUnhandled((generation) => generation.catch(() => {})), false)
  })

  it('comes after the iteration was left is no unhandled rejection', async () => {
    const listen = async (generation) => {
      const iterator = generation[Symbol.asyncIterator]()
      iterator.next().catch(() => {})
      await iterator.return()
    }
    assert.equal(await isUnhandled(listen), false)
  })
})
