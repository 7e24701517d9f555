/**
 * Several things at once: generations, models, threads, and the event loop beside them.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY, referenceFile, root } from './support/models.mjs'

const PROMPTS = ['Once upon a time', 'The little dog', 'A brave mouse', 'In the garden']
const LONG = { ...GREEDY, ignoreEos: true, maxTokens: 400 }

let realm
let model

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
})
after(() => realm.dispose())

describe('generations at the same time', () => {
  it('say what they say alone', async () => {
    const options = { maxTokens: 40, seed: 11, temperature: 0.9 }
    const alone = []
    for (const prompt of PROMPTS) alone.push((await model.generate(prompt, options)).text)
    const together = await Promise.all(PROMPTS.map((prompt) => model.generate(prompt, options)))
    assert.deepEqual(
      together.map(({ text }) => text),
      alone,
    )
  })

  it('run on several models without mixing them up', async () => {
    const other = await realm.load(referenceFile('realm-tiny-stories-Q4_K_M.gguf'))
    const ask = (which) =>
      which.chat([{ role: 'user', content: 'Tell me a story about a little dog.' }], GREEDY)
    const [first, second] = [await ask(model), await ask(other)]
    assert.notEqual(first.text, second.text)
    const both = await Promise.all([ask(model), ask(other), ask(model), ask(other)])
    assert.deepEqual(
      both.map(({ text }) => text),
      [first.text, second.text, first.text, second.text],
    )
    await other.dispose()
  })

  it('more than the model has sequences wait or are refused, and none is lost', async () => {
    const asked = Array.from({ length: 40 }, (_, i) =>
      model.generate(PROMPTS[i % PROMPTS.length], { ...GREEDY, maxTokens: 5 }).then(
        ({ tokens }) => tokens.length,
        ({ code }) => code,
      ),
    )
    for (const outcome of await Promise.all(asked))
      assert.ok(outcome === 5 || outcome === 'KV_EXHAUSTED', String(outcome))
  })

  it('are ended one by one by their own signals', async () => {
    const controller = new AbortController()
    const aborted = model.generate(PROMPTS[0], { ...LONG, signal: controller.signal })
    const other = model.generate(PROMPTS[1], { ...LONG, maxTokens: 60 })
    for await (const { index } of aborted) if (index === 3) controller.abort()
    assert.equal((await aborted).finishReason, 'abort')
    assert.equal((await other).tokens.length, 60)
  })
})

describe('disposing of a model', () => {
  it('ends its generations with DISPOSED', async () => {
    const doomed = await realm.load(bundledModel)
    const outcomes = PROMPTS.map((prompt) =>
      doomed.generate(prompt, LONG).catch(({ code }) => code),
    )
    const iterated = (async () => {
      try {
        for await (const _ of doomed.generate('Once', LONG));
        return 'ended'
      } catch ({ code }) {
        return code
      }
    })()
    await sleep(20)
    await doomed.dispose()
    for (const outcome of await Promise.all([...outcomes, iterated]))
      assert.equal(outcome, 'DISPOSED')
  })

  it('leaves other models of the same file alone', async () => {
    const other = await realm.load(bundledModel)
    const generation = model.generate('Once', { ...GREEDY, maxTokens: 50 })
    await other.dispose()
    assert.equal((await generation).finishReason !== 'abort', true)
  })
})

describe('the JS thread', () => {
  it('is idle most of the time while a model loads, reads a prompt and answers', async (t) => {
    const began = performance.eventLoopUtilization()
    const large = await realm.load(bundledModel, { contextLength: 4096 })
    const prompt = Uint32Array.from({ length: 1500 }, (_, i) => 3 + (i % 2000))
    await large.generate(prompt, { ...LONG, maxTokens: 300 })
    const { active, idle, utilization } = performance.eventLoopUtilization(began)
    await large.dispose()
    t.diagnostic(`busy for ${active.toFixed(0)} ms, idle for ${idle.toFixed(0)}`)
    // A thread that is blocked is never idle; it counts as busy while other programs have its core.
    assert.ok(utilization < 0.5, `busy for ${active} ms of ${active + idle}`)
  })
})

describe('a worker thread', () => {
  const script = join(root, 'test-js', 'support', 'worker.mjs')

  function start(workerData) {
    const worker = new Worker(script, { workerData: { source: bundledModel, ...workerData } })
    const message = new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    return { worker, message }
  }

  it('generates what the main thread does, beside it', async () => {
    const options = { ...GREEDY, maxTokens: 30 }
    const workers = [0, 1].map((i) => start({ prompt: PROMPTS[i], options }))
    const here = await Promise.all([0, 1].map((i) => model.generate(PROMPTS[i], options)))
    const there = await Promise.all(workers.map(({ message }) => message))
    assert.deepEqual(
      there.map(({ result }) => result),
      here.map(({ text }) => text),
    )
  })

  it('can be ended in the middle of an answer, again and again', async () => {
    for (let round = 0; round < 5; round++) {
      const { worker, message } = start({ prompt: PROMPTS[2], options: LONG, announce: true })
      assert.deepEqual(await message, { started: true })
      await worker.terminate()
    }
    const { tokens } = await model.generate(PROMPTS[0], { ...GREEDY, maxTokens: 5 })
    assert.equal(tokens.length, 5, 'the main thread is unharmed')
  })
})

describe('a process', () => {
  function node(code) {
    return spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      cwd: root,
      encoding: 'utf8',
      timeout: 30_000,
      env: { ...process.env, MODEL: bundledModel },
    })
  }
  const load = `
    import { Realm } from '@realm-ai/realm'
    const realm = await Realm.create()
    const model = await realm.load(process.env.MODEL)`

  it('stays alive until an answer has come, and ends by itself afterwards', () => {
    const { status, stdout, stderr } = node(`${load}
      model.generate('Once', { maxTokens: 20, temperature: 0 }).then((r) => console.log(r.tokens.length))`)
    assert.equal(stderr, '')
    assert.equal(stdout.trim(), '20')
    assert.equal(status, 0)
  })

  it('is not kept alive by a logger', () => {
    const { status, stdout, stderr } = node(`
      import { Realm } from '@realm-ai/realm'
      const realm = await Realm.create({ logger: ({ level }) => console.log(level) })
      await realm.load(process.env.MODEL)`)
    assert.equal(stderr, '')
    assert.equal(stdout.trim(), 'info')
    assert.equal(status, 0)
  })

  it('can exit in the middle of an answer', () => {
    const { status, stderr } = node(`${load}
      for await (const c of model.generate('Once', { ignoreEos: true })) if (c.index === 3) process.exit(7)`)
    assert.equal(stderr, '')
    assert.equal(status, 7)
  })
})
