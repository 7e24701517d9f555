/**
 * What callers hand in and what it may do: callbacks that throw, signals of their own make, values
 * that change.
 */

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { quantize, Realm, RealmError, renderChatTemplate } from '@realm-ai/realm'
import { bundledModel, GREEDY } from './support/models.mjs'

let realm
let model
let folder
/** Bytes that the bundled model takes. */
let total

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'realm-callers-'))
  realm = await Realm.create()
  model = await realm.load(bundledModel)
  total = (await Realm.estimate(bundledModel)).total
})
after(async () => {
  await realm.dispose()
  rmSync(folder, { recursive: true })
})

const ANSWER = { ...GREEDY, maxTokens: 5 }
const failure = new Error('from a callback')
const fail = () => {
  throw failure
}
const failLater = async () => fail()

/** A stream of a model, for progress that is more than the load's own. */
const stream = () => new Blob([readFileSync(bundledModel)]).stream()

describe('a logger that throws', () => {
  for (const [how, logger] of [
    ['at once', fail],
    ['in a promise', failLater],
  ]) {
    it(`changes nothing: ${how}`, async () => {
      const own = await Realm.create({ logger })
      const loaded = await own.load(bundledModel)
      assert.equal((await loaded.generate('Once', ANSWER)).tokens.length, 5)
      await own.dispose()
      assert.ok((await Realm.estimate(bundledModel, { logger })).total > 0)
    })
  }
})

describe('an onProgress that throws', () => {
  const isStopped = { name: 'RealmError', code: 'ABORTED', cause: failure }

  it('stops a load, and nothing stays loaded', async () => {
    const own = await Realm.create({ memoryLimit: Math.ceil(1.5 * total) })
    for (const onProgress of [fail, ({ fraction }) => fraction === 1 && fail()]) {
      await assert.rejects(own.load(bundledModel, { onProgress }), isStopped)
      await assert.rejects(own.load(stream(), { onProgress }), isStopped)
    }
    await own.load(bundledModel)
    await own.dispose()
  })

  it('stops a load when what it throws comes in a promise', async () => {
    await assert.rejects(realm.load(bundledModel, { onProgress: failLater }), isStopped)
  })

  it('stops quantising, and leaves no file', async () => {
    const output = join(folder, 'stopped.gguf')
    const options = { allowRequantize: true, onProgress: fail }
    await assert.rejects(quantize(bundledModel, output, 'Q4_0', options), isStopped)
    assert.ok(!existsSync(output))
  })
})

/** A signal of the caller's own make. */
class OwnSignal {
  aborted = false
  reason = undefined
  listeners = new Set()
  addEventListener(_type, listener) {
    this.listeners.add(listener)
  }
  removeEventListener(_type, listener) {
    this.listeners.delete(listener)
  }
  abort(reason) {
    this.aborted = true
    this.reason = reason
    for (const listener of this.listeners) listener()
  }
}

describe('a signal', () => {
  /** Every operation that takes one. */
  const operations = {
    generate: (signal) => model.generate('Once', { ...ANSWER, signal }),
    chat: (signal) => model.chat([{ role: 'user', content: 'Hi' }], { ...ANSWER, signal }),
    send: (signal) => model.session(ANSWER).send('Hi', { signal }),
    embed: (signal) => model.embed('Once', { signal }),
    rerank: (signal) => model.rerank('Once', ['a'], { signal }),
    embedTokens: (signal) => model.embedTokens([1], { signal }),
    forwardLayer: (signal) => model.forwardLayer(0, new Float32Array(model.hiddenSize), { signal }),
    computeLogits: (signal) => model.computeLogits(new Float32Array(model.hiddenSize), { signal }),
    load: (signal) => realm.load(bundledModel, { signal }),
    loadAdapter: (signal) => model.loadAdapter(join(folder, 'none.gguf'), { signal }),
    estimate: (signal) => Realm.estimate(bundledModel, { signal }),
    quantize: (signal) =>
      quantize(bundledModel, join(folder, 'q.gguf'), 'Q4_0', { allowRequantize: true, signal }),
  }
  const listens = () => {}
  const wrong = {
    'without removeEventListener': { aborted: false, addEventListener: listens },
    'without addEventListener': { aborted: false, removeEventListener: listens },
    'whose addEventListener is no function': {
      aborted: false,
      addEventListener: 5,
      removeEventListener: listens,
    },
    'whose addEventListener throws': {
      aborted: false,
      addEventListener: fail,
      removeEventListener: listens,
    },
    'whose aborted is no boolean': {
      aborted: 'no',
      addEventListener: listens,
      removeEventListener: listens,
    },
    'whose aborted throws': {
      get aborted() {
        return fail()
      },
      addEventListener: listens,
      removeEventListener: listens,
    },
  }
  for (const [operation, run] of Object.entries(operations)) {
    it(`of ${operation} is refused when it is none`, async () => {
      for (const [how, signal] of Object.entries(wrong)) {
        await assert.rejects(
          async () => run(signal),
          (error) => error instanceof RealmError && error.code === 'INVALID_ARGUMENT',
          how,
        )
      }
    })
  }

  it('may be anything that works like one', async () => {
    const signal = new OwnSignal()
    const running = model.generate('Once', { ...GREEDY, ignoreEos: true, signal })
    const embedding = model.embed('Once', { signal }).catch(() => {})
    assert.equal(signal.listeners.size, 1, 'one for all')
    for await (const _ of running) signal.abort('enough')
    assert.equal((await running).finishReason, 'abort')
    await embedding
    assert.equal(signal.listeners.size, 0, 'nobody listens when all is done')
    await assert.rejects(realm.load(bundledModel, { signal }), { code: 'ABORTED' })
    await assert.rejects(realm.load(stream(), { signal }), { code: 'ABORTED' })
    await assert.rejects(model.embed('Once', { signal }), { code: 'ABORTED', cause: 'enough' })
  })

  it('may be shared by any number of operations, of which Node does not warn', async () => {
    const warnings = []
    const warn = (warning) => warnings.push(warning)
    process.on('warning', warn)
    const stop = new AbortController()
    const { signal } = stop
    const running = Array.from({ length: 20 }, () =>
      model.generate('Once', { ...GREEDY, ignoreEos: true, signal }),
    )
    const done = model.generate('Once', { ...ANSWER, signal })
    assert.equal((await done).finishReason, 'length', 'it leaves the others alone')
    stop.abort()
    for (const { finishReason } of await Promise.all(running)) assert.equal(finishReason, 'abort')
    await new Promise(setImmediate)
    process.off('warning', warn)
    assert.deepEqual(warnings, [])
  })

  it('whose reason throws stops what it is for', async () => {
    const signal = new OwnSignal()
    Object.defineProperty(signal, 'reason', { get: fail, set() {} })
    const running = model.generate('Once', { ...GREEDY, ignoreEos: true, signal })
    const embedding = assert.rejects(model.embed('Once', { signal }), RealmError)
    const loading = assert.rejects(realm.load(stream(), { signal }), RealmError)
    signal.abort()
    assert.equal((await running).finishReason, 'abort')
    await Promise.all([embedding, loading])
  })

  it('whose removeEventListener throws does not spoil what was done', async () => {
    const signal = { aborted: false, addEventListener: listens, removeEventListener: fail }
    assert.equal((await model.generate('Once', { ...ANSWER, signal })).tokens.length, 5)
    assert.ok((await model.embed('Once', { signal })).length > 0)
    await (await realm.load(bundledModel, { signal })).dispose()
  })
})

describe('a conversation', () => {
  it('keeps the answer alone, whatever echo puts in front of it', async () => {
    const session = model.session({ ...ANSWER, echo: true })
    const plain = model.session(ANSWER)
    for (const text of ['hello', 'again', 'more']) {
      const echoed = await session.send(text)
      const { text: answer } = await plain.send(text)
      assert.ok(echoed.text.length > answer.length && echoed.text.endsWith(answer), echoed.text)
    }
    assert.deepEqual(session.messages, plain.messages)
    await Promise.all([session.dispose(), plain.dispose()])
  })

  it('keeps an aborted answer with echo as far as it got, and nothing when it got nowhere', async () => {
    const session = model.session({ ...ANSWER, echo: true })
    await session.send('hello', { signal: AbortSignal.abort() })
    assert.deepEqual(session.messages, [])
    let prompt
    const answer = session.send('hello')
    for await (const { text } of answer) {
      prompt ??= text
      answer.abort()
    }
    const said = (await answer).text.slice(prompt.length)
    assert.equal(session.messages[1]?.content ?? '', said)
    await session.dispose()
  })

  it('does not change with what its caller keeps', async () => {
    const stop = ['xyz']
    const tools = [{ type: 'function', function: { name: 'look' } }]
    const variables = { nested: { value: 1 } }
    const session = model.session({ ...ANSWER, stop, tools, variables })
    const saved = session.save()
    stop[0] = 5
    tools.push(10n)
    variables.nested.value = () => {}
    const message = { role: 'user', content: [{ type: 'text', text: 'Hi' }] }
    await session.send({ ...message, content: 'Hi', parts: message.content })
    message.content[0].text = 'Bye'
    assert.equal(session.messages[0].parts[0].text, 'Hi')
    await session.send('Hello')
    const { options } = JSON.parse(new TextDecoder().decode(session.save()))
    assert.deepEqual(options, JSON.parse(new TextDecoder().decode(saved)).options)
    assert.deepEqual(options.stop, ['xyz'])
    await session.dispose()
  })

  it('refuses a message that cannot be copied', async () => {
    const session = model.session(ANSWER)
    for (const extra of [() => {}, Symbol('x'), 10n, Number.NaN]) {
      const sent = session.send({ role: 'user', content: 'Hi', extra })
      await assert.rejects(sent, { name: 'RealmError', code: 'INVALID_ARGUMENT' })
    }
    assert.deepEqual(session.messages, [])
    await session.dispose()
  })

  it('takes an option of send that is undefined as none', async () => {
    const session = model.session(ANSWER)
    const { tokens } = await session.send('Hi', { maxTokens: undefined, temperature: undefined })
    assert.ok(tokens.length <= ANSWER.maxTokens)
    await session.dispose()
  })
})

describe('half of a surrogate pair', () => {
  const half = 'a\ud83dz'
  const whole = 'a\ufffdz'

  it('is U+FFFD in messages, tools, variables and the names of members', () => {
    const template = '{{ messages | tojson }}{{ tools | tojson }}{{ x | tojson }}'
    const rendered = (text) =>
      renderChatTemplate(template, [{ role: 'user', content: text, [text]: 1 }], {
        tools: [{ type: text, function: { name: text } }],
        variables: { x: { [text]: [text] } },
      })
    assert.equal(rendered(half), rendered(whole))
    assert.ok(rendered(half).includes(whole))
  })

  it('does not touch whole pairs, or text that looks like an escape', () => {
    const text = '🐶 \\ud83d \\\\udc36 \udc36\ud83d \u001f'
    const rendered = renderChatTemplate('{{ messages[0].content }}', [
      { role: 'user', content: text },
    ])
    assert.equal(rendered, '🐶 \\ud83d \\\\udc36 \ufffd\ufffd \u001f')
  })

  it('is U+FFFD in a session', async () => {
    const session = model.session({ ...ANSWER, system: half })
    await session.send(half)
    assert.deepEqual(
      session.messages.slice(0, 2).map(({ content }) => content),
      [whole, whole],
    )
    await session.dispose()
  })
})
