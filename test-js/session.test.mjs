/**
 * Conversations that keep their KV cache.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { bundledModel, conformanceKit, GREEDY } from './support/models.mjs'

let realm
let model

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel, { contextLength: 1024, maxSequences: 4 })
})
after(() => realm.dispose())

const SETTINGS = { ...GREEDY, maxTokens: 60 }

describe('a session', () => {
  it('answers as a chat with the whole conversation does', async () => {
    const session = model.session({ system: 'You are Ruby, a friendly helper.', ...SETTINGS })
    const messages = [{ role: 'system', content: 'You are Ruby, a friendly helper.' }]
    for (const content of ['What is your name?', 'Tell me a story about a fox.', 'Hello!']) {
      const answer = await session.send(content)
      messages.push({ role: 'user', content })
      const chat = await model.chat(messages, SETTINGS)
      assert.equal(answer.text, chat.text)
      messages.push({ role: 'assistant', content: answer.text })
    }
    assert.deepEqual(session.messages, messages)
    await session.dispose()
  })

  it('does not read again what was said before', async () => {
    const session = model.session(SETTINGS)
    const first = await session.send('Tell me a story about a fox.')
    assert.equal(first.usage.cachedTokens, 0)
    const second = await session.send('What was the name of the fox?')
    assert.ok(
      second.usage.cachedTokens >= first.usage.promptTokens,
      `${second.usage.cachedTokens} of ${second.usage.promptTokens} tokens were cached`,
    )
    assert.ok(second.timings.promptTokens < second.usage.promptTokens)
    await session.dispose()
  })

  it('streams like a generation', async () => {
    const session = model.session(SETTINGS)
    let text = ''
    for await (const chunk of session.send('Hello!')) text += chunk.text
    assert.equal(session.messages.at(-1).content, text)
    await session.dispose()
  })

  it('keeps an aborted answer as far as it got, and can go on', async () => {
    const session = model.session({ ...GREEDY, ignoreEos: true })
    let text = ''
    for await (const chunk of session.send('Tell me a story about a fox.')) {
      text += chunk.text
      if (text.length > 30) break
    }
    assert.equal(session.messages.length, 2)
    assert.ok(session.messages[1].content.startsWith(text))
    const next = await session.send('Hello!', { ignoreEos: false, maxTokens: 20 })
    assert.ok(next.text.length > 0)
    assert.equal(session.messages.length, 4)
    await session.dispose()
  })

  it('is unchanged by an answer that was aborted before it began or failed', async () => {
    const session = model.session(SETTINGS)
    await session.send('Hello!', { signal: AbortSignal.abort() })
    assert.deepEqual(session.messages, [])
    await assert.rejects(session.send('dog '.repeat(2000)), { name: 'RealmError' })
    assert.deepEqual(session.messages, [])
    assert.ok((await session.send('Hello!')).text.length > 0)
    await session.dispose()
  })

  it('answers one message at a time', async () => {
    const session = model.session(SETTINGS)
    const answering = session.send('Hello!')
    await assert.rejects(session.send('Hello?'), {
      code: 'INVALID_ARGUMENT',
      message: /still answering/,
    })
    assert.throws(() => session.save(), { code: 'INVALID_ARGUMENT' })
    await answering
    await session.dispose()
  })

  it('takes an option that is undefined as one that is not given', async () => {
    const session = model.session({ ...SETTINGS, maxTokens: 5 })
    const answer = await session.send('Tell me a story about a fox.', {
      maxTokens: undefined,
      temperature: undefined,
    })
    assert.equal(answer.usage.completionTokens, 5)
    await session.dispose()
  })

  it('forks into two that do not know of each other', async () => {
    const session = model.session(SETTINGS)
    await session.send('Tell me a story about a fox.')
    const fork = session.fork()
    assert.deepEqual(fork.messages, session.messages)
    const [left, right] = await Promise.all([
      session.send('What was the name of the fox?'),
      fork.send('Count to 10.'),
    ])
    assert.ok(right.usage.cachedTokens > 0, 'the fork shares what was read')
    assert.equal(session.messages.length, 4)
    assert.equal(fork.messages.at(-2).content, 'Count to 10.')
    const again = await model.chat(session.messages.slice(0, 3), SETTINGS)
    assert.equal(left.text, again.text)
    const other = await model.chat(fork.messages.slice(0, 3), SETTINGS)
    assert.equal(right.text, other.text)
    await Promise.all([session.dispose(), fork.dispose()])
  })

  it('is saved and restored with its conversation and options', async () => {
    const session = model.session({ system: 'You are Ruby, a friendly helper.', ...SETTINGS })
    await session.send('Tell me a story about a fox.')
    const saved = session.save()
    assert.ok(saved instanceof Uint8Array)
    const want = await session.send('What is your name?')
    const restored = model.session()
    restored.restore(saved)
    const got = await restored.send('What is your name?')
    assert.equal(got.text, want.text)
    assert.deepEqual(restored.messages, session.messages)
    await Promise.all([session.dispose(), restored.dispose()])
  })

  it('refuses to restore what is not its own', async () => {
    const session = model.session()
    const encode = (value) => new TextEncoder().encode(JSON.stringify(value))
    const saved = JSON.parse(new TextDecoder().decode(session.save()))
    const refused = [
      ['a string', 'saved session'],
      [new Uint8Array([1, 2, 3]), 'saved session'],
      [encode(null), 'format'],
      [encode({ ...saved, format: 'other' }), 'format'],
      [encode({ ...saved, version: 2 }), 'version: expected 1, got 2'],
      [encode({ ...saved, model: { ...saved.model, architecture: 'mamba' } }), 'architecture'],
      [encode({ ...saved, messages: [{ content: 'x' }] }), 'messages[0].role'],
      [encode({ ...saved, options: { temperature: 'hot' } }), 'temperature'],
    ]
    for (const [bytes, part] of refused) {
      assert.throws(
        () => session.restore(bytes),
        (error) => error.code === 'INVALID_ARGUMENT' && error.message.includes(part),
        part,
      )
    }
    await session.dispose()
  })

  it('gives its sequence back, so that many can come after each other', async () => {
    for (let i = 0; i < 20; i++) {
      const session = model.session({ ...GREEDY, maxTokens: 2 })
      await session.send('Hello!')
      await session[Symbol.asyncDispose]()
      assert.throws(() => session.fork(), { code: 'DISPOSED' })
      await assert.rejects(session.send('Hello!'), { code: 'DISPOSED' })
    }
  })

  it('ends its answer when it is disposed of', async () => {
    const session = model.session({ ...GREEDY, ignoreEos: true })
    const answer = session.send('Hello!')
    const disposed = session.dispose()
    await session.dispose()
    assert.equal(answer.ended, true, 'every call waits for the end')
    await disposed
    assert.equal((await answer).finishReason, 'abort')
  })

  it('refuses wrong and reserved options', () => {
    const isInvalid = { name: 'RealmError', code: 'INVALID_ARGUMENT' }
    assert.throws(() => model.session({ sistem: 'x' }), isInvalid)
    assert.throws(() => model.session({ temperature: 'hot' }), isInvalid)
    assert.throws(() => model.session({ signal: AbortSignal.abort() }), isInvalid)
    assert.throws(() => model.session({ tenant: 'a' }), /not supported yet/)
  })

  it('says that a file without a template has none', async () => {
    const plain = await realm.load(`${conformanceKit()}/malformed/valid-base.gguf`)
    assert.equal(plain.info.chatTemplate, null)
    await assert.rejects(plain.chat([{ role: 'user', content: 'Hi' }]), {
      name: 'RealmError',
      code: 'TEMPLATE_ERROR',
      message: /no chat template/,
    })
    await plain.dispose()
  })
})
