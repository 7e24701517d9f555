/**
 * What a model says of itself, its tokens, template and weights.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { Realm, renderChatTemplate } from '@realm-ai/realm'
import { bundledModel, conformanceKit, GREEDY } from './support/models.mjs'

let realm
let model

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
})
after(() => realm.dispose())

describe('the information on a model', () => {
  it('is what its card says', () => {
    const { info } = model
    assert.equal(info.architecture, 'llama')
    assert.equal(info.parameterCount, 3672320)
    assert.equal(info.layerCount, 4)
    assert.equal(info.hiddenSize, 256)
    assert.equal(info.embeddingSize, 256)
    assert.equal(info.headCount, 8)
    assert.equal(info.kvHeadCount, 4)
    assert.equal(info.feedForwardSize, 768)
    assert.equal(info.vocabularySize, 2048)
    assert.equal(info.trainedContextLength, 512)
    assert.equal(info.contextLength, 512)
    assert.equal(info.fileBytes, 3972416)
    assert.equal(info.fileType, 'Q8_0')
    assert.equal(info.bosToken, 0)
    assert.equal(info.eosToken, 2)
    assert.ok(info.endOfGenerationTokens.includes(2))
    assert.match(info.chatTemplate, /im_start/)
    assert.equal(info.kvCacheType, 'f32')
    assert.equal(info.backend, 'cpu')
    assert.ok(info.threads >= 1)
    assert.ok(info.loadMs > 0)
  })

  it('names the backends of this machine', async () => {
    const backends = await Realm.backends()
    const cpu = backends.find(({ name }) => name === 'cpu')
    assert.equal(cpu.available, true)
    assert.notEqual(cpu.description, '')
    assert.equal(model.layerCount, model.info.layerCount)
    assert.equal(model.vocabularySize, model.info.vocabularySize)
  })

  it('is told to the logger: which backend, and why', async () => {
    const entries = []
    const logging = await Realm.create({ logger: (entry) => entries.push(entry) })
    await logging.load(bundledModel)
    assert.equal(entries.length, 1)
    assert.equal(entries[0].level, 'info')
    assert.ok(entries[0].message.includes(model.info.backendReason))
    await logging.dispose()
  })

  it('is told to every logger: what the engine warns of, until its realm is disposed of', async () => {
    const heard = [[], []]
    const realms = await Promise.all(
      heard.map((entries) => Realm.create({ logger: (entry) => entries.push(entry) })),
    )
    const isWarning = ({ level, message }) => level === 'warn' && /trained for 512/.test(message)
    const count = (entries) => entries.filter(isWarning).length
    const load = async (from) => {
      const long = await from.load(bundledModel, { contextLength: 1024 })
      await long.generate('Once', { ...GREEDY, maxTokens: 1 })
    }
    await load(realms[0])
    assert.deepEqual(heard.map(count), [1, 1])
    await realms[1].dispose()
    await load(realms[0])
    assert.deepEqual(heard.map(count), [2, 1])
    await realms[0].dispose()
  })

  it('is told to the logger: tools that a template leaves out, once', async () => {
    const entries = []
    const own = await Realm.create({ logger: (entry) => entries.push(entry) })
    const warnings = () =>
      entries.filter(({ message }) => message.includes('knows no tools')).length
    const other = await own.load(bundledModel)
    const messages = [{ role: 'user', content: 'Hi' }]
    const tools = [{ type: 'function', function: { name: 'add' } }]
    const knowing = '{{ tools | length }}'
    const chat = (options) => other.chat(messages, { ...GREEDY, maxTokens: 1, ...options })
    assert.equal(other.applyChatTemplate(messages, { tools, template: knowing }), '1')
    await chat({ tools, template: knowing })
    await chat({ tools: [], template: 'chatml' })
    assert.equal(warnings(), 0)
    other.applyChatTemplate(messages, { tools, template: 'chatml' })
    await chat({ tools, template: 'chatml' })
    assert.equal(warnings(), 1)
    await own.dispose()
  })

  it('follows the load options', async () => {
    const other = await realm.load(bundledModel, { contextLength: 128, kvCacheType: 'f16' })
    assert.equal(other.info.contextLength, 128)
    assert.equal(other.info.kvCacheType, 'f16')
    assert.ok(other.info.kvCacheBytes < model.info.kvCacheBytes)
    assert.equal((await other.generate('Once', { ...GREEDY, maxTokens: 4 })).tokens.length, 4)
    await other.dispose()
  })

  it('answers the same in either layout, and says which it is, with which kernel', async () => {
    const answers = []
    const cpu = (await Realm.backends()).find(({ name }) => name === 'cpu')
    // Whatever the layout, the best that the processor has.
    const kernel = cpu.description.split(' ')[0]
    for (const layout of ['mapped', 'packed']) {
      const other = await realm.load(bundledModel, { layout })
      assert.equal(other.info.layout, layout)
      assert.equal(other.info.packedBytes > 0, layout === 'packed')
      assert.equal(other.info.kernels.Q8_0, kernel)
      answers.push((await other.generate('Once', { ...GREEDY, maxTokens: 32 })).text)
      await other.dispose()
    }
    assert.equal(answers[0], answers[1])
  })
})

describe('text and tokens', () => {
  it('are turned into each other without loss', () => {
    for (const text of ['', ' ', 'a little dog', 'Zoë\n\t日本語 🐶 <|im_end|>', '\0']) {
      assert.equal(model.detokenize(model.tokenize(text)), text)
    }
  })

  it('have special tokens only where they are asked for', () => {
    const text = '<|im_start|>user'
    assert.ok(model.tokenize(text).length > 2)
    const ids = model.tokenize(text, { parseSpecial: true })
    assert.equal(ids[0], 1)
    assert.equal(model.detokenize(ids), 'user')
    assert.equal(model.detokenize(ids, { special: true }), text)
  })

  it('may come as typed arrays, plain arrays and bytes', () => {
    const ids = model.tokenize('a little dog')
    const bytes = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)
    for (const form of [ids, [...ids], Int32Array.from(ids), bytes])
      assert.equal(model.detokenize(form), 'a little dog')
  })
})

describe('a chat template', () => {
  it('turns messages into the prompt that chat uses', async () => {
    const messages = [
      { role: 'system', content: 'You are Ruby, a friendly helper.' },
      { role: 'user', content: 'What is your name?' },
    ]
    const prompt = model.applyChatTemplate(messages)
    assert.equal(
      prompt,
      '<|im_start|>system\nYou are Ruby, a friendly helper.<|im_end|>\n' +
        '<|im_start|>user\nWhat is your name?<|im_end|>\n<|im_start|>assistant\n',
    )
    const answer = await model.chat(messages, GREEDY)
    assert.match(answer.text, /Ruby/)
    const same = await model.generate(prompt, { ...GREEDY, addSpecial: false })
    assert.equal(same.text, answer.text)
    assert.ok(
      !model.applyChatTemplate(messages, { addGenerationPrompt: false }).endsWith('assistant\n'),
    )
  })
})

describe('the choice of a chat template', () => {
  const messages = [{ role: 'user', content: 'Hi' }]

  it("is the file's, unless an option names a built-in one or brings Jinja", () => {
    assert.equal(model.info.chatTemplateOrigin, 'file')
    const gemma = model.applyChatTemplate(messages, { template: 'gemma' })
    assert.match(gemma, /<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n$/)
    const jinja = '{{ messages[0].content }}{{ documents | length }}{{ bos_token }}'
    const text = model.applyChatTemplate(messages, { template: jinja, documents: [{}, {}] })
    assert.match(text, /^Hi2<.+>$/)
    const isRefused = { name: 'RealmError', code: 'TEMPLATE_ERROR' }
    assert.throws(() => model.applyChatTemplate(messages, { template: 'no-such' }), isRefused)
    assert.throws(() => model.applyChatTemplate(messages, { template: '{% if %}' }), isRefused)
  })

  it('can be made when loading', async () => {
    const options = { vocabOnly: true, chatTemplate: '{{ messages | length }} messages' }
    const other = await realm.load(bundledModel, options)
    assert.equal(other.info.chatTemplateOrigin, 'option')
    assert.equal(other.applyChatTemplate(messages), '1 messages')
    await other.dispose()
    const wrong = { vocabOnly: true, chatTemplate: 'no-such' }
    await assert.rejects(realm.load(bundledModel, wrong), { code: 'TEMPLATE_ERROR' })
  })

  it('falls on the built-in one that fits the vocabulary of a file without any', async () => {
    const bytes = readFileSync(`${conformanceKit()}/tokenizers/llama-bpe/vocab.gguf.gz`)
    const plain = await realm.load(gunzipSync(bytes), { vocabOnly: true })
    assert.equal(plain.info.chatTemplate, null)
    assert.equal(plain.info.chatTemplateOrigin, 'llama3')
    assert.match(plain.applyChatTemplate(messages), /<\|start_header_id\|>user<\|end_header_id\|>/)
    await plain.dispose()
  })

  it('continues a last message', () => {
    const begun = [...messages, { role: 'assistant', content: 'Once upon ' }]
    const prompt = model.applyChatTemplate(begun, { continueFinalMessage: true })
    assert.match(prompt, /assistant\nOnce upon $/)
    assert.equal(renderChatTemplate('chatml', begun, { continueFinalMessage: true }), prompt)
    const both = { continueFinalMessage: true, addGenerationPrompt: true }
    assert.throws(() => model.applyChatTemplate(begun, both), { code: 'INVALID_ARGUMENT' })
  })
})

describe('a chat template that does not end', () => {
  const messages = [{ role: 'user', content: 'Hi' }]
  const rounds = (body) =>
    `{% for i in range(99999) %}{% for j in range(99999) %}${body}{% endfor %}{% endfor %}`
  const long = "{% set x = 'a' * 99999 %}{% set x = x * 100 %}{% set y = x ~ 'b' %}"
  const templates = [
    rounds('{% set z = 1 %}'),
    long + rounds('{% if x ~ "c" == y %}{% endif %}'),
    long + rounds('{% if "c" in x %}{% endif %}'),
    long + rounds('{% if x.find("c") > 0 %}{% endif %}'),
  ]
  const isStopped = {
    name: 'RealmError',
    code: 'TEMPLATE_ERROR',
    message: /longer than the 50 ms/,
  }

  it('is stopped where it is waited for', () => {
    for (const template of templates) {
      assert.throws(() => model.applyChatTemplate(messages, { template }), isStopped)
      assert.throws(() => renderChatTemplate(template, messages), isStopped)
    }
  })

  it('holds nobody up in chat and in sessions, and other answers go on', async () => {
    const isStopped = {
      name: 'RealmError',
      code: 'TEMPLATE_ERROR',
      message: /longer than the 500|more than/,
    }
    const story = model.generate('Once upon a time', GREEDY)
    for (const template of templates.slice(1)) {
      const session = model.session()
      for (const start of [
        () => model.chat(messages, { template }),
        () => session.send('Hi', { template }),
      ]) {
        let hasTurn = false
        setImmediate(() => {
          hasTurn = true
        })
        await assert.rejects(start(), isStopped)
        assert.ok(hasTurn)
      }
      assert.deepEqual(session.messages, [])
      await session.dispose()
    }
    assert.ok((await story).text.length > 0)
    assert.match(
      (await model.chat(messages, { ...GREEDY, maxTokens: 4 })).finishReason,
      /length|stop/,
    )
  })
})

describe('a tensor', () => {
  it('is given with its shape and type, in numbers', async () => {
    const norm = await model.tensor('output_norm.weight')
    assert.deepEqual(norm.shape, [256])
    assert.equal(norm.type, 'F32')
    assert.equal(norm.data.length, 256)
    const query = await model.tensor('blk.0.attn_q.weight')
    assert.deepEqual(query.shape, [256, 256])
    assert.equal(query.type, 'Q8_0')
    assert.equal(query.data.length, 256 * 256)
    assert.ok(query.data.every(Number.isFinite) && query.data.some((value) => value !== 0))
  })

  it('of the embedding holds what embedTokens gives', async () => {
    const { data, shape } = await model.tensor('token_embd.weight')
    const [width] = shape
    const hidden = await model.embedTokens([5, 7])
    assert.deepEqual(hidden.subarray(0, width), data.subarray(5 * width, 6 * width))
    assert.deepEqual(hidden.subarray(width), data.subarray(7 * width, 8 * width))
  })

  it('is known for every name that is listed', async () => {
    const names = model.tensorNames()
    assert.ok(names.includes('blk.3.ffn_down.weight'))
    for (const name of names) {
      const { data, shape } = await model.tensor(name)
      assert.equal(
        data.length,
        shape.reduce((product, n) => product * n, 1),
        name,
      )
    }
  })
})

describe('a model that is loaded for its vocabulary only', () => {
  it('tokenises and renders, and refuses to compute', async () => {
    const vocabulary = await realm.load(bundledModel, { vocabOnly: true })
    assert.deepEqual(vocabulary.tokenize('a dog'), model.tokenize('a dog'))
    const messages = [{ role: 'user', content: 'Hi' }]
    assert.equal(vocabulary.applyChatTemplate(messages), model.applyChatTemplate(messages))
    const isRefused = { name: 'RealmError', code: 'INVALID_ARGUMENT' }
    await assert.rejects(vocabulary.generate('a dog'), isRefused)
    await assert.rejects(vocabulary.embedTokens([1]), isRefused)
    await vocabulary.dispose()
  })
})
