/**
 * Files that leave something out or get it wrong: what is loaded all the same, what is said of it,
 * and what is refused. Each is the bundled model with a few bytes of its header changed.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY, layerLogits } from './support/models.mjs'

/** The bundled model with the bytes `from`, which are there once or more, replaced where they first are. */
function changed(...changes) {
  const bytes = Buffer.from(readFileSync(bundledModel))
  for (const [from, to] of changes) {
    const at = bytes.indexOf(from)
    assert.ok(at >= 0 && from.length === to.length, `cannot replace ${from}`)
    bytes.set(Buffer.from(to), at)
  }
  return new Uint8Array(bytes)
}

/** A key of the header, its type and its value, for an unsigned integer of 32 bits. */
function integer(key, value) {
  const bytes = Buffer.alloc(key.length + 8)
  bytes.write(key)
  bytes.writeUInt32LE(4, key.length)
  bytes.writeUInt32LE(value, key.length + 4)
  return bytes
}

/** Loads a file and gives the model, and what the logger was warned of, to `use`. */
async function withLogged(bytes, use, options) {
  const warnings = []
  const logger = ({ level, message }) => level === 'warn' && warnings.push(message)
  const realm = await Realm.create({ logger })
  try {
    await use(await realm.load(bytes, options), warnings)
  } finally {
    await realm.dispose()
  }
}

const NO_PRE = ['tokenizer.ggml.pre', 'tokenizer.ggml.prx']

describe('a file with a vocabulary that is not quite right', () => {
  it('that names no pre-tokenizer has the default one, with a warning', async () => {
    await withLogged(changed(NO_PRE), async (model, warnings) => {
      assert.equal(model.info.preTokenizer, 'default')
      assert.match(warnings.join('\n'), /tokenizer\.ggml\.pre\b.*"default" is used/)
      assert.deepEqual(model.info.warnings, warnings)
      const answer = await model.generate('Once upon a time', { ...GREEDY, maxTokens: 8 })
      assert.equal(answer.tokens.length, 8)
    })
    await withLogged(bundledModel, async (model, warnings) => {
      assert.notEqual(model.info.preTokenizer, null)
      assert.deepEqual([model.info.warnings, warnings], [[], []])
    })
  })

  it('whose ids of special tokens are not in the vocabulary has none of them, with warnings', async () => {
    const bos = 'tokenizer.ggml.bos_token_id'
    const eos = 'tokenizer.ggml.eos_token_id'
    const file = changed(
      [integer(bos, 0), integer(bos, 2048)],
      [integer(eos, 2), integer(eos, 9999)],
    )
    await withLogged(file, async (model, warnings) => {
      assert.deepEqual([model.info.bosToken, model.info.eosToken], [null, null])
      assert.equal(warnings.length, 2)
      assert.match(warnings[0], /bos_token_id is 2048, the vocabulary has 2048/)
      assert.match(warnings[1], /eos_token_id is 9999, the vocabulary has 2048/)
      assert.deepEqual(model.info.warnings, warnings)
      assert.equal((await model.generate('Once', { ...GREEDY, maxTokens: 4 })).tokens.length, 4)
    })
  })
})

describe('a file whose texts end with a token', () => {
  const flag = (name, value) => `tokenizer.ggml.add_${name}_token\x07\0\0\0${value}`
  const file = changed([flag('bos', '\0'), flag('eos', '\x01')])
  const text = 'Once upon a time'

  it('has it behind what is embedded, and not behind what is continued', async () => {
    await withLogged(file, async (model) => {
      const ids = model.tokenize(text)
      const whole = model.tokenize(text, { addSpecial: true })
      assert.deepEqual([...whole], [...ids, model.info.eosToken])
      const options = { ...GREEDY, maxTokens: 12 }
      const answer = await model.generate(text, options)
      assert.equal(answer.usage.promptTokens, ids.length)
      assert.equal(answer.text, (await model.generate(ids, options)).text)
      assert.deepEqual(await model.embed(text), await model.embed(whole))
      assert.notDeepEqual(await model.embed(text), await model.embed(ids))
    })
  })
})

describe('a file without a vocabulary', () => {
  const model = (kind) => `tokenizer.ggml.model\x08\0\0\0\x04\0\0\0\0\0\0\0${kind}`
  const file = changed([model('gpt2'), model('none')])
  const ids = [400, 31, 7, 1200, 9]
  const options = { ...GREEDY, maxTokens: 8, ignoreEos: true }

  it('gives for token ids what it gives with one, but text', async () => {
    await withLogged(bundledModel, async (whole) => {
      await withLogged(file, async (bare, warnings) => {
        assert.equal(bare.info.tokenizer, 'none')
        assert.deepEqual([bare.info.bosToken, bare.info.eosToken], [null, null])
        assert.deepEqual(bare.info.endOfGenerationTokens, [])
        assert.equal(bare.info.chatTemplateOrigin, null)
        assert.equal(bare.vocabularySize, whole.vocabularySize)
        assert.deepEqual(warnings, [])
        const [answer, expected] = [
          await bare.generate(ids, options),
          await whole.generate(ids, options),
        ]
        assert.deepEqual(answer.tokens, expected.tokens)
        assert.equal(answer.text, '')
        const input = Uint32Array.from(ids)
        assert.deepEqual(await bare.embed(input), await whole.embed(input))
        assert.deepEqual(await layerLogits(bare, ids), await layerLogits(whole, ids))
      })
    })
  })

  it('refuses text and says what to use in its place', async () => {
    const refused = {
      name: 'RealmError',
      code: 'INVALID_ARGUMENT',
      message: /no vocabulary.*token ids/,
    }
    await withLogged(file, async (bare) => {
      const messages = [{ role: 'user', content: 'Hi' }]
      assert.throws(() => bare.tokenize('Once'), refused)
      assert.throws(() => bare.detokenize(ids), refused)
      assert.throws(() => bare.applyChatTemplate(messages), refused)
      const calls = [
        () => bare.generate('Once', options),
        () => bare.generate('', options),
        () => bare.generate('a'.repeat(100_000), options),
        () => bare.generate(ids, { ...options, echo: true }),
        () => bare.generate(ids, { ...options, stop: ['.'] }),
        () => bare.chat(messages, options),
        () => bare.session().send('Hi', options),
        () => bare.embed('Once'),
        () => bare.embed(['Once', Uint32Array.from(ids)]),
      ]
      for (const call of calls) await assert.rejects(async () => await call(), refused, `${call}`)
      assert.equal((await bare.generate(ids, options)).tokens.length, 8)
    })
    const load = withLogged(file, () => {}, { chatTemplate: 'chatml' })
    await assert.rejects(load, refused)
  })

  it('says what it is when nothing else of it is loaded', async () => {
    const says = ({ info }) =>
      assert.deepEqual([info.tokenizer, info.architecture], ['none', 'llama'])
    await withLogged(file, says, { vocabOnly: true })
  })
})

describe('the beginning of a prompt', () => {
  const options = { ...GREEDY, maxTokens: 8 }
  const flag = (value) => `tokenizer.ggml.add_bos_token\x07\0\0\0${value}`
  const wantsBos = changed([flag('\0'), flag('\x01')])

  it('is BOS where there is nothing else and the model has one', async () => {
    await withLogged(bundledModel, async (model, warnings) => {
      const { bosToken } = model.info
      const answer = await model.generate('', options)
      assert.equal(answer.usage.promptTokens, 1)
      assert.equal(answer.text, (await model.generate([bosToken], options)).text)
      const nothing = { code: 'INVALID_ARGUMENT', message: /the prompt has no tokens/ }
      await assert.rejects(model.generate('', { ...options, addSpecial: false }), nothing)
      await assert.rejects(model.generate([], options), nothing)
      assert.deepEqual(warnings, [])
    })
    const bos = 'tokenizer.ggml.bos_token_id'
    const without = changed([integer(bos, 0), integer(bos, 4000)])
    await withLogged(without, async (model) => {
      const nothing = { code: 'INVALID_ARGUMENT', message: /the prompt has no tokens/ }
      await assert.rejects(model.generate('', options), nothing)
    })
  })

  it('is warned of once when it is BOS twice, for a text that names it and a model that wants it', async () => {
    await withLogged(wantsBos, async (model, warnings) => {
      const bos = model.detokenize([model.info.bosToken], { special: true })
      const template = '{{ bos_token }}{{ messages[0].content }}'
      const text = model.applyChatTemplate([{ role: 'user', content: 'Once' }], { template })
      assert.equal(text, `${bos}Once`)
      await model.generate(text, { ...options, addSpecial: false })
      await model.generate(text, { ...options, parseSpecial: false })
      await model.generate('Once', options)
      await model.chat([{ role: 'user', content: 'Once' }], { ...options, template })
      assert.deepEqual(warnings, [])
      const { usage } = await model.generate(text, options)
      assert.equal(usage.promptTokens, model.tokenize(text, { parseSpecial: true }).length + 1)
      await model.generate(text, options)
      assert.equal(warnings.length, 1)
      assert.ok(warnings[0].includes(`begins with ${bos} twice`), warnings[0])
      assert.match(warnings[0], /addSpecial: false/)
    })
  })
})

describe('a file with blocks that it does not count', () => {
  it('is refused, naming the first tensor of them and both numbers', async () => {
    const key = 'llama.block_count'
    const file = changed([integer(key, 4), integer(key, 3)])
    const error = await withLogged(file, () => {}).catch((error) => error)
    assert.equal(error.code, 'MODEL_INVALID')
    assert.match(error.message, /^blk\.3\.\S+: found a tensor of block 3, expected a block below 3/)
  })
})
