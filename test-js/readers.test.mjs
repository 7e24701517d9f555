/**
 * An answer waits for its reader, and for nobody else.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY, root } from './support/models.mjs'

let realm
let model

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
})
after(() => realm.dispose())

const ENDLESS = { ...GREEDY, ignoreEos: true }

/** Steps of the engine in which an answer that did not wait would get on. */
const steps = () => model.generate('Another', { ...ENDLESS, maxTokens: 200 })

/** Tokens of an answer that is ended here. */
async function tokensOf(generation) {
  generation.abort()
  return (await generation).tokens.length
}

describe('an answer', () => {
  it('that is read slowly is no further ahead than maxBuffered', async () => {
    const slow = model.generate('Once', { ...ENDLESS, maxBuffered: 6 })
    const chunks = slow[Symbol.asyncIterator]()
    for (let i = 0; i < 20; i++) await chunks.next()
    await steps()
    const n = await tokensOf(slow)
    assert.ok(n >= 20 && n <= 26, `${n} tokens`)
  })

  it('that nobody reads or awaits waits at maxBuffered, 64 by default', async () => {
    const [unread, few] = [{}, { maxBuffered: 1 }].map((options) =>
      model.generate('Once', { ...ENDLESS, ...options }),
    )
    await steps()
    assert.equal(unread.ended, false)
    assert.deepEqual([await tokensOf(unread), await tokensOf(few)], [64, 1])
  })

  it('that waited says the same as one that did not', async () => {
    const options = { temperature: 1, seed: 7, maxTokens: 40, ignoreEos: true }
    const straight = await model.generate('Once', options)
    const slow = model.generate('Once', { ...options, maxBuffered: 3 })
    let text = ''
    for await (const chunk of slow) {
      text += chunk.text
      if (chunk.index % 10 === 0) await steps()
    }
    assert.equal(text, straight.text)
    assert.deepEqual((await slow).tokens, straight.tokens)
  })

  it('that is awaited runs to its end though nobody reads it', async () => {
    const options = { ...ENDLESS, maxBuffered: 1, maxTokens: 30 }
    assert.equal((await model.generate('Once', options)).tokens.length, 30)
    const late = model.generate('Once', options)
    await steps()
    assert.equal((await late).tokens.length, 30)
  })

  it('that waits is aborted by leaving its iteration, its signal and its session', async () => {
    const stop = new AbortController()
    const signalled = model.generate('Once', { ...ENDLESS, maxBuffered: 2, signal: stop.signal })
    const session = model.session({ ...ENDLESS, maxBuffered: 2 })
    const sent = session.send('Hello')
    const left = model.generate('Once', { ...ENDLESS, maxBuffered: 2 })
    await steps()
    for await (const _ of left) break
    assert.equal((await left).finishReason, 'abort')
    stop.abort()
    assert.equal((await signalled).finishReason, 'abort')
    await session.dispose()
    assert.equal((await sent).finishReason, 'abort')
  })

  it('that waits ends with its model', async () => {
    const own = await realm.load(bundledModel)
    const waiting = own.generate('Once', { ...ENDLESS, maxBuffered: 1 })
    const chunks = waiting[Symbol.asyncIterator]()
    await chunks.next()
    await steps()
    await own.dispose()
    await assert.rejects(waiting, { code: 'DISPOSED' })
  })

  it('that waits gives its memory to others', async () => {
    const small = await realm.load(bundledModel, { contextLength: 128, maxSequences: 1 })
    const options = { ...ENDLESS, maxBuffered: 100 }
    const waiting = [1, 2, 3].map(() => small.generate('Once', options))
    const { tokens } = await small.generate('Once', { ...ENDLESS, maxTokens: 110 })
    for (const generation of waiting) {
      assert.equal(generation.ended, false)
      assert.deepEqual((await generation).tokens.subarray(0, 110), tokens)
    }
    await small.dispose()
  })
})

describe('a process', () => {
  const program = (body) => `
    const { Realm } = require('@realm-ai/realm')
    Realm.create().then(async (realm) => {
      const model = await realm.load(${JSON.stringify(bundledModel)})
      const options = { temperature: 0, ignoreEos: true }
      ${body}
    })`

  async function output(body) {
    const child = spawn(process.execPath, ['-e', program(body)], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    const [code] = await once(child, 'close')
    assert.equal(code, 0)
    return text
  }

  it('ends when nobody reads on', async () => {
    const said = await output(`
      const chunks = model.generate('Once', options)[Symbol.asyncIterator]()
      await chunks.next()
      console.log('read')`)
    assert.equal(said, 'read\n')
  })

  it('goes on until answers that are awaited or read are there', async () => {
    const said = await output(`
      model.generate('Once', { ...options, maxTokens: 300 }).then(({ tokens }) =>
        console.log(tokens.length))
      let n = 0
      for await (const { tokens } of model.generate('Once', { ...options, maxTokens: 200 }))
        n += tokens.length
      console.log(n)`)
    assert.deepEqual(said.trim().split('\n').sort(), ['200', '300'])
  })
})
