/**
 * What an answer looks like and where it ends.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY } from './support/models.mjs'

const QUESTION = [{ role: 'user', content: 'Tell me a story about a little dog.' }]

let realm
let model
let story

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
  story = await model.chat(QUESTION, { ...GREEDY, maxTokens: 256 })
})
after(() => realm.dispose())

async function collect(generation) {
  const chunks = []
  for await (const chunk of generation) chunks.push(chunk)
  return chunks
}

describe('the chunks of an answer', () => {
  it('join to its text and tokens, numbered from 0', async () => {
    const generation = model.chat(QUESTION, { ...GREEDY, maxTokens: 256 })
    const chunks = await collect(generation)
    const result = await generation
    assert.ok(chunks.length > 10, 'it came in pieces')
    assert.equal(chunks.map(({ text }) => text).join(''), result.text)
    assert.deepEqual(
      chunks.flatMap(({ tokens }) => [...tokens]),
      [...result.tokens],
    )
    let index = 0
    for (const chunk of chunks) {
      assert.equal(chunk.index, index)
      index += chunk.tokens.length
    }
    assert.equal(result.text, model.detokenize(result.tokens))
    assert.equal(result.usage.completionTokens, result.tokens.length)
    assert.equal(
      result.usage.totalTokens,
      result.usage.promptTokens + result.usage.completionTokens,
    )
  })

  it('never split a code point', async () => {
    // At such a temperature most tokens are single bytes, many of them parts of a code point.
    let heldBack = 0
    for (let seed = 0; seed < 8; seed++) {
      const generation = model.generate('Once', {
        temperature: 50,
        topK: 0,
        topP: 1,
        minP: 0,
        seed,
        maxTokens: 100,
        ignoreEos: true,
      })
      const chunks = await collect(generation)
      const { tokens } = await generation
      // A code point that was cut would be a replacement character on both sides of the cut.
      assert.equal(chunks.map(({ text }) => text).join(''), model.detokenize(tokens))
      heldBack += chunks.filter(({ text }) => text === '').length
    }
    assert.ok(heldBack > 0, 'no token ended inside a code point')
  })

  it('repeat a prompt of many bytes per character whole, with echo', async () => {
    const prompt = 'Zoë 日本語 🐶'
    const { text } = await model.generate(prompt, { ...GREEDY, echo: true, maxTokens: 3 })
    assert.ok(text.startsWith(prompt), text)
  })
})

describe('an answer', () => {
  it('ends by itself, and without the token that ended it', () => {
    assert.equal(story.finishReason, 'stop')
    assert.equal(story.stopText, null)
    assert.ok(!model.info.endOfGenerationTokens.includes(story.tokens.at(-1)))
    assert.ok(!story.text.includes('<|im_end|>'))
  })

  it('ends at maxTokens', async () => {
    const { tokens, finishReason } = await model.chat(QUESTION, { ...GREEDY, maxTokens: 7 })
    assert.equal(finishReason, 'length')
    assert.deepEqual([...tokens], [...story.tokens.slice(0, 7)])
  })

  it('ends where the context is full', async () => {
    const small = await realm.load(bundledModel, { contextLength: 64 })
    const { usage, finishReason } = await small.generate('Once', {
      ...GREEDY,
      ignoreEos: true,
    })
    assert.equal(finishReason, 'length')
    assert.ok(usage.totalTokens >= 63 && usage.totalTokens <= 65, `${usage.totalTokens} tokens`)
    await small.dispose()
  })

  it('is refused when its prompt is longer than the context', async () => {
    const small = await realm.load(bundledModel, { contextLength: 32 })
    await assert.rejects(small.generate('dog '.repeat(100)), {
      name: 'RealmError',
      code: /INVALID_ARGUMENT|KV_EXHAUSTED/,
    })
    assert.equal((await small.generate('dog', { maxTokens: 1 })).tokens.length, 1)
    await small.dispose()
  })

  it('names its times', () => {
    const { timings, usage } = story
    for (const value of Object.values(timings)) assert.ok(Number.isFinite(value) && value >= 0)
    assert.equal(timings.promptTokens, usage.promptTokens - usage.cachedTokens)
    assert.ok(timings.decodeMs > 0)
  })
})

describe('a stop string', () => {
  it('is text like any other before minTokens', async () => {
    const stop = ' '
    const first = await model.chat(QUESTION, { ...GREEDY, stop })
    assert.ok(first.tokens.length < 10)
    const result = await model.chat(QUESTION, { ...GREEDY, stop, minTokens: 10 })
    assert.ok(result.tokens.length >= 10)
    assert.equal(result.stopText, stop)
    assert.equal(result.text, story.text.slice(0, result.text.length))
    assert.ok(result.text.includes(stop))
    assert.equal(story.text[result.text.length], stop)
  })

  it('ends the answer before it', async () => {
    const stop = ' little'
    const result = await model.chat(QUESTION, { ...GREEDY, stop })
    assert.equal(result.text, story.text.slice(0, story.text.indexOf(stop)))
    assert.equal(result.finishReason, 'stop')
    assert.equal(result.stopText, stop)
  })

  it('is found when it spans tokens and starts inside one', async () => {
    for (const [start, length] of [
      [5, 9],
      [21, 17],
      [40, 30],
    ]) {
      const stop = story.text.slice(start, start + length)
      assert.ok(model.tokenize(stop).length > 1, 'it is more than one token')
      const generation = model.chat(QUESTION, { ...GREEDY, stop: [stop, 'never said'] })
      const chunks = await collect(generation)
      const result = await generation
      assert.equal(result.text, story.text.slice(0, story.text.indexOf(stop)))
      assert.equal(
        chunks.map(({ text }) => text).join(''),
        result.text,
        'nothing of it was streamed',
      )
      assert.equal(result.stopText, stop)
    }
  })

  it('that is begun and not finished is text like any other', async () => {
    const stop = `${story.text.slice(10, 20)}#`
    const result = await model.chat(QUESTION, { ...GREEDY, stop, maxTokens: 256 })
    assert.equal(result.text, story.text)
    assert.equal(result.stopText, null)
  })
})

describe('the length of an answer', () => {
  it('is at least minTokens', async () => {
    const short = await model.chat([{ role: 'user', content: 'What is 3 + 4?' }], GREEDY)
    assert.equal(short.finishReason, 'stop')
    const minTokens = short.tokens.length + 5
    const longer = await model.chat([{ role: 'user', content: 'What is 3 + 4?' }], {
      ...GREEDY,
      minTokens,
      maxTokens: 100,
    })
    assert.ok(longer.tokens.length >= minTokens, `${longer.tokens.length} tokens`)
    assert.deepEqual(
      [...longer.tokens.slice(0, short.tokens.length)],
      [...short.tokens],
      'only its end is put off',
    )
    const ends = new Set(model.info.endOfGenerationTokens)
    assert.ok(longer.tokens.slice(0, minTokens).every((token) => !ends.has(token)))
  })

  it('is exactly maxTokens when the end is ignored', async () => {
    const result = await model.chat(QUESTION, { ...GREEDY, ignoreEos: true, maxTokens: 300 })
    assert.equal(result.tokens.length, 300)
    assert.equal(result.finishReason, 'length')
    assert.deepEqual([...result.tokens.slice(0, story.tokens.length)], [...story.tokens])
  })
})

describe('a seed', () => {
  const options = { temperature: 1.2, maxTokens: 40, ignoreEos: true }

  it('gives the same text again, and other seeds give others', async () => {
    const texts = new Set()
    for (let seed = 1; seed <= 5; seed++) {
      const once = await model.chat(QUESTION, { ...options, seed })
      const again = await model.chat(QUESTION, { ...options, seed })
      assert.equal(once.text, again.text)
      assert.equal(once.seed, seed)
      texts.add(once.text)
    }
    assert.ok(texts.size > 1)
  })

  it('that was drawn is named by the result and gives the same text', async () => {
    const drawn = await model.chat(QUESTION, options)
    const again = await model.chat(QUESTION, { ...options, seed: drawn.seed })
    assert.equal(again.text, drawn.text)
    const other = await model.chat(QUESTION, options)
    assert.notEqual(other.seed, drawn.seed)
  })

  it('does not matter to who takes only the best', async () => {
    for (const narrow of [{ topK: 1 }, { topP: 0 }, { minP: 1 }, { temperature: 0 }]) {
      const result = await model.chat(QUESTION, { ...options, maxTokens: 12, ...narrow, seed: 3 })
      assert.deepEqual([...result.tokens], [...story.tokens.slice(0, 12)], JSON.stringify(narrow))
    }
  })
})

describe('a repeat penalty', () => {
  it('makes an answer say less often what it has said', async () => {
    const options = { ...GREEDY, ignoreEos: true, maxTokens: 200 }
    const plain = await model.chat(QUESTION, options)
    const varied = await model.chat(QUESTION, {
      ...options,
      repeatPenalty: 1.8,
      repeatLastN: 200,
    })
    assert.ok(new Set(varied.tokens).size > new Set(plain.tokens).size)
  })

  it('changes nothing when it looks at no token', async () => {
    const result = await model.chat(QUESTION, {
      ...GREEDY,
      maxTokens: 30,
      repeatPenalty: 1.8,
      repeatLastN: 0,
    })
    assert.deepEqual([...result.tokens], [...story.tokens.slice(0, 30)])
  })
})

describe('aborting', () => {
  it('before the start ends at once, with an empty answer', async () => {
    const result = await model.generate('Once', { signal: AbortSignal.abort() })
    assert.equal(result.finishReason, 'abort')
    assert.equal(result.tokens.length, 0)
  })

  it('in the middle of an answer keeps what was said so far', async () => {
    const controller = new AbortController()
    const generation = model.chat(QUESTION, {
      ...GREEDY,
      ignoreEos: true,
      signal: controller.signal,
    })
    let chunks = 0
    for await (const _ of generation) if (++chunks === 5) controller.abort()
    const result = await generation
    assert.equal(result.finishReason, 'abort')
    assert.ok(result.tokens.length >= 5 && result.tokens.length < 300)
    assert.deepEqual([...result.tokens.slice(0, 5)], [...story.tokens.slice(0, 5)])
  })

  it('by leaving the loop does the same', async () => {
    const generation = model.chat(QUESTION, { ...GREEDY, ignoreEos: true })
    for await (const { index } of generation) if (index >= 3) break
    assert.equal((await generation).finishReason, 'abort')
  })

  it('in the middle of a long prompt ends before the first token', async () => {
    const large = await realm.load(bundledModel, { contextLength: 16384 })
    const prompt = Uint32Array.from({ length: 16000 }, (_, i) => 3 + (i % 2000))
    const controller = new AbortController()
    const generation = large.generate(prompt, { ...GREEDY, signal: controller.signal })
    await sleep(30)
    controller.abort()
    const result = await generation
    assert.equal(result.finishReason, 'abort')
    assert.equal(result.tokens.length, 0)
    const after = await large.generate(prompt.slice(0, 10), { ...GREEDY, maxTokens: 3 })
    assert.equal(after.tokens.length, 3, 'the model goes on working')
    await large.dispose()
  })

  it('after the end changes nothing', async () => {
    const controller = new AbortController()
    const generation = model.generate('Once', {
      ...GREEDY,
      maxTokens: 2,
      signal: controller.signal,
    })
    const result = await generation
    controller.abort()
    generation.abort()
    assert.equal((await generation).finishReason, result.finishReason)
  })
})
