/**
 * Every argument and option of the public API meets every kind of value. What it cannot use is
 * refused with a RealmError that has a code of its own: no TypeError, no defect, no crash, no wait.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { LoraAdapter, quantize, Realm, RealmError, renderChatTemplate } from '@realm-ai/realm'
import * as native from '@realm-ai/realm/native'
import { bundledModel, GREEDY } from './support/models.mjs'

const folder = mkdtempSync(join(tmpdir(), 'realm-values-'))
let realm
let model
/** The same model in the synchronous API. */
let id

before(async () => {
  realm = await Realm.create({ cacheDirectory: folder })
  model = await realm.load(bundledModel)
  id = native.storeModel(bundledModel)
})
after(async () => {
  native.removeModel(id)
  await realm.dispose()
  rmSync(folder, { recursive: true })
})

const failure = new Error('from a getter')
const fail = () => {
  throw failure
}
const throwing = new Proxy({}, { get: fail, ownKeys: fail, has: fail, getPrototypeOf: fail })
const { proxy: revoked, revoke } = Proxy.revocable([], {})
revoke()
const detached = (array) => {
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}
/** An object whose members all throw, whatever they are called. */
const getters = Object.defineProperties(
  {},
  Object.fromEntries(
    ['threads', 'position', 'special', 'temperature', 'signal', 'role', 'url', 'adapter'].map(
      (name) => [name, { get: fail, enumerable: true }],
    ),
  ),
)

const VALUES = {
  undefined,
  null: null,
  true: true,
  zero: 0,
  one: 1,
  'a negative number': -1,
  'a fraction': 1.5,
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  'a number beyond 32 bits': 2 ** 32,
  'the largest whole number': Number.MAX_SAFE_INTEGER,
  'a number that is not exact': 2 ** 53,
  'a huge number': 1e300,
  'a bigint': 10n,
  'an empty string': '',
  'a string': 'none such',
  'half of a surrogate pair': '\ud800',
  'a string with a zero': 'a\0b',
  'a symbol': Symbol('x'),
  'a function': () => {},
  'an object': {},
  'an object without a prototype': Object.create(null),
  'an object that names no class': { constructor: { name: Symbol('x') } },
  'an object of one member': { unknown: 1 },
  'a date': new Date(Number.NaN),
  'a map': new Map([[1, 2]]),
  'a promise': Promise.resolve(1),
  'an error': failure,
  'an array': [],
  'an array of holes': new Array(3),
  'an array of null': [null],
  'an array of a symbol': [Symbol('x')],
  'an array of numbers': [1.5, -1],
  'an array of arrays': [[]],
  'an array of what throws': [throwing],
  'an empty Uint32Array': new Uint32Array(0),
  'a Uint32Array beyond the vocabulary': Uint32Array.of(2 ** 32 - 1),
  'an odd number of bytes': new Uint8Array(3),
  'a BigUint64Array': BigUint64Array.of(1n),
  'a detached Uint32Array': detached(new Uint32Array(4)),
  'a detached Float32Array': detached(new Float32Array(4)),
  'a detached Uint8Array': detached(new Uint8Array(4)),
  'a proxy that throws': throwing,
  'a revoked proxy': revoked,
  'getters that throw': getters,
  'half a signal': { aborted: false, addEventListener() {} },
  'a signal that throws': {
    get aborted() {
      return fail()
    },
    addEventListener: fail,
    removeEventListener: fail,
  },
  'a signal that is its prototype': Object.create(AbortSignal.prototype),
  'an adapter that is its prototype': Object.create(LoraAdapter.prototype),
  'a file handle that throws': { getFile: fail },
  'a file handle of no file': { getFile: () => throwing },
}

/** What is right where: such a value is not tried. */
const whole =
  (min, max = Number.MAX_SAFE_INTEGER) =>
  (x) =>
    Number.isSafeInteger(x) && x >= min && x <= max
const within = (min, max) => (x) => typeof x === 'number' && x >= min && x <= max
const anyText = (x) => typeof x === 'string'
const text = (x) => anyText(x) && x !== ''
const flag = (x) => typeof x === 'boolean'
const called = (x) => typeof x === 'function'
const empty = (x) => Array.isArray(x) && x.length === 0
const noValues = (x) => empty(x) || (ArrayBuffer.isView(x) && x.length === 0)
const nothing = () => false
const orNone = (takes) => (x) => x === undefined || takes(x)
/** Options without a member, however they are made. */
const options = orNone(
  (x) => typeof x === 'object' && !Array.isArray(x) && Object.keys(x).length === 0,
)
/** Throws for what JSON leaves out or turns into something else. */
const strict = (_, member) => {
  if (called(member) || typeof member === 'symbol') fail()
  return typeof member === 'number' && !Number.isFinite(member) ? fail() : member
}
const json = (x) => typeof JSON.stringify(x, strict) === 'string'
const jsonObject = (x) => typeof x === 'object' && x !== null && !Array.isArray(x) && json(x)
const jsonList = (x) => Array.isArray(x) && json(x)

const MESSAGES = [{ role: 'user', content: 'Hi' }]
const ANSWER = { ...GREEDY, maxTokens: 2 }
const path = join(folder, 'none.gguf')
const row = () => new Float32Array(model.hiddenSize)

/** Options of one call: a test for each. */
function optionsOf(call, fields) {
  return Object.fromEntries(
    Object.entries(fields).map(([name, takes]) => [
      name,
      { takes: orNone(takes), call: (x) => call({ [name]: x }) },
    ]),
  )
}

const GENERATE = {
  maxTokens: whole(1),
  temperature: within(0, 3e38),
  topK: whole(0),
  topP: within(0, 1),
  minP: within(0, 1),
  repeatPenalty: within(1e-37, 3e38),
  repeatLastN: whole(0),
  seed: whole(0),
  stop: (x) => text(x) || empty(x),
  minTokens: whole(0),
  ignoreEos: flag,
  echo: flag,
  maxBuffered: whole(1),
  lora: empty,
}
const PROMPT = { tools: jsonList, documents: jsonList, variables: jsonObject }
const SIGNAL = { signal: nothing }
const LOADING = {
  contextLength: whole(0, 2 ** 24),
  maxSequences: whole(0, 4096),
  kvCacheType: nothing,
  layout: nothing,
  chatTemplate: text,
  vocabOnly: flag,
  lora: empty,
  onProgress: called,
  ...SIGNAL,
}
const BACKENDS = { backend: nothing, fallback: empty, device: text, threads: whole(0, 256) }

const ENTRIES = {
  'Realm.create': {
    options: { takes: options, call: (x) => Realm.create(x) },
    ...optionsOf((x) => Realm.create(x), {
      ...BACKENDS,
      memoryLimit: whole(1),
      logger: called,
      cacheDirectory: text,
      hubEndpoint: text,
      hubToken: text,
    }),
  },
  'Realm.estimate': {
    source: { takes: nothing, call: (x) => Realm.estimate(x) },
    options: {
      takes: options,
      call: (x) => Realm.estimate(bundledModel, x),
    },
    ...optionsOf((x) => Realm.estimate(bundledModel, x), {
      ...LOADING,
      ...BACKENDS,
      lora: (x) => text(x) || empty(x),
    }),
  },
  'Realm.cache': {
    delete: { takes: anyText, call: (x) => Realm.cache.delete(x) },
    'delete of a realm': { takes: anyText, call: (x) => realm.cache.delete(x) },
  },
  'realm.load': {
    source: { takes: nothing, call: (x) => realm.load(x) },
    'source in a list': { takes: nothing, call: (x) => realm.load([x]) },
    options: {
      takes: options,
      call: (x) => realm.load(bundledModel, x),
    },
    ...optionsOf((x) => realm.load(bundledModel, x), LOADING),
    'scale of an adapter': {
      takes: nothing,
      call: (x) => realm.load(bundledModel, { lora: { path, scale: x } }),
    },
  },
  'model.generate': {
    // An empty one begins with the model's BOS.
    prompt: { takes: anyText, call: (x) => model.generate(x) },
    options: {
      takes: options,
      call: (x) => model.generate('a', x),
    },
    ...optionsOf((x) => model.generate('a', x), {
      ...GENERATE,
      ...SIGNAL,
      addSpecial: flag,
      parseSpecial: flag,
    }),
    'an adapter': { takes: nothing, call: (x) => model.generate('a', { lora: { adapter: x } }) },
  },
  'model.chat': {
    messages: { takes: empty, call: (x) => model.chat(x) },
    message: { takes: nothing, call: (x) => model.chat([x]) },
    role: { takes: anyText, call: (x) => model.chat([{ role: x, content: 'Hi' }]) },
    content: {
      takes: orNone((x) => anyText(x) || x === null || jsonList(x)),
      call: (x) => model.chat([{ role: 'user', content: x }]),
    },
    'another member': {
      takes: orNone(json),
      call: (x) => model.chat([{ role: 'user', content: 'Hi', extra: x }]),
    },
    options: { takes: options, call: (x) => model.chat(MESSAGES, x) },
    ...optionsOf((x) => model.chat(MESSAGES, x), {
      ...GENERATE,
      ...PROMPT,
      ...SIGNAL,
      template: text,
    }),
  },
  'model.applyChatTemplate': {
    messages: { takes: empty, call: (x) => model.applyChatTemplate(x) },
    options: {
      takes: options,
      call: (x) => model.applyChatTemplate(MESSAGES, x),
    },
    ...optionsOf((x) => model.applyChatTemplate(MESSAGES, x), {
      ...PROMPT,
      template: text,
      addGenerationPrompt: flag,
      continueFinalMessage: flag,
    }),
  },
  renderChatTemplate: {
    template: { takes: anyText, call: (x) => renderChatTemplate(x, MESSAGES) },
    messages: { takes: empty, call: (x) => renderChatTemplate('chatml', x) },
    options: {
      takes: options,
      call: (x) => renderChatTemplate('chatml', MESSAGES, x),
    },
  },
  'model.session': {
    options: { takes: options, call: (x) => model.session(x) },
    ...optionsOf((x) => model.session(x), { ...GENERATE, ...PROMPT, system: text, template: text }),
    send: { takes: anyText, call: (x) => model.session().send(x) },
    'options of send': {
      takes: options,
      call: (x) => model.session(ANSWER).send('Hi', x),
    },
    ...Object.fromEntries(
      Object.entries(
        optionsOf((x) => model.session().send('Hi', x), { ...GENERATE, ...SIGNAL }),
      ).map(([name, entry]) => [`${name} of send`, entry]),
    ),
    restore: { takes: nothing, call: (x) => model.session().restore(x) },
  },
  adapters: {
    loadAdapter: { takes: nothing, call: (x) => model.loadAdapter(x) },
    'options of loadAdapter': { takes: nothing, call: (x) => model.loadAdapter(path, x) },
    ...optionsOf((x) => model.loadAdapter(path, x), { onProgress: called, ...SIGNAL }),
    setLora: { takes: empty, call: (x) => model.setLora(x) },
    'adapter of setLora': { takes: nothing, call: (x) => model.setLora({ adapter: x }) },
  },
  'text and ids': {
    tokenize: { takes: anyText, call: (x) => model.tokenize(x) },
    'options of tokenize': {
      takes: options,
      call: (x) => model.tokenize('a', x),
    },
    ...optionsOf((x) => model.tokenize('a', x), { addSpecial: flag, parseSpecial: flag }),
    detokenize: {
      takes: noValues,
      call: (x) => model.detokenize(x),
    },
    'options of detokenize': {
      takes: options,
      call: (x) => model.detokenize([1], x),
    },
    ...optionsOf((x) => model.detokenize([1], x), { special: flag }),
  },
  embeddings: {
    embed: { takes: (x) => anyText(x) || empty(x), call: (x) => model.embed(x) },
    'embed of a list': {
      // A list of numbers is one text's token ids.
      takes: (x) => anyText(x) || x === 0 || x === 1,
      call: (x) => model.embed([x]),
    },
    'options of embed': {
      takes: options,
      call: (x) => model.embed('a', x),
    },
    ...optionsOf((x) => model.embed('a', x), { pooling: nothing, normalize: flag, ...SIGNAL }),
    // This model does not rank: whatever is right is refused as well.
    'query of rerank': { takes: nothing, call: (x) => model.rerank(x, ['a']) },
    'documents of rerank': { takes: nothing, call: (x) => model.rerank('a', x) },
    'document of rerank': { takes: nothing, call: (x) => model.rerank('a', [x]) },
    'options of rerank': { takes: nothing, call: (x) => model.rerank('a', ['b'], x) },
  },
  layers: {
    embedTokens: {
      takes: noValues,
      call: (x) => model.embedTokens(x),
    },
    'position of embedTokens': {
      takes: orNone(whole(0)),
      call: (x) => model.embedTokens([1], { position: x }),
    },
    'signal of embedTokens': {
      takes: orNone(nothing),
      call: (x) => model.embedTokens([1], { signal: x }),
    },
    'options of embedTokens': {
      takes: options,
      call: (x) => model.embedTokens([1], x),
    },
    'layer of forwardLayer': {
      takes: whole(0, 1),
      call: (x) => model.forwardLayer(x, row()),
    },
    forwardLayer: {
      takes: noValues,
      call: (x) => model.forwardLayer(0, x),
    },
    ...optionsOf((x) => model.forwardLayer(0, row(), x), {
      position: whole(0, 1),
      sequence: whole(0, 1),
      ...SIGNAL,
    }),
    'options of forwardLayer': {
      takes: options,
      call: (x) => model.forwardLayer(0, row(), x),
    },
    computeLogits: {
      takes: noValues,
      call: (x) => model.computeLogits(x),
    },
    'options of computeLogits': {
      takes: options,
      call: (x) => model.computeLogits(row(), x),
    },
    dropLayerSequence: {
      takes: whole(0, 2 ** 32 - 1),
      call: (x) => model.dropLayerSequence(x),
    },
    tensor: { takes: nothing, call: (x) => model.tensor(x) },
  },
  quantize: {
    input: { takes: nothing, call: (x) => quantize(x, path, 'Q4_0') },
    output: {
      takes: text,
      call: (x) => quantize(bundledModel, x, 'Q4_0', { allowRequantize: true }),
    },
    mix: { takes: nothing, call: (x) => quantize(bundledModel, path, x) },
    // A model that is quantised already is refused whatever the options are.
    options: { takes: nothing, call: (x) => quantize(bundledModel, path, 'Q4_0', x) },
    ...optionsOf((x) => quantize(bundledModel, path, 'Q4_0', x), {
      imatrix: nothing,
      threads: nothing,
      allowRequantize: flag,
      onProgress: nothing,
      ...SIGNAL,
    }),
  },
  '@realm-ai/realm/native': {
    storeModel: { takes: nothing, call: (x) => native.storeModel(x) },
    'options of storeModel': {
      takes: options,
      call: (x) => native.storeModel(bundledModel, x),
    },
    embedTokens: {
      takes: noValues,
      call: (x) => native.embedTokens(id, x),
    },
    'position of embedTokens': {
      takes: orNone(whole(0)),
      call: (x) => native.embedTokens(id, [1], x),
    },
    'layerIdx of forwardLayer': {
      takes: whole(0, 1),
      call: (x) => native.forwardLayer(id, x, row(), 0),
    },
    forwardLayer: {
      takes: noValues,
      call: (x) => native.forwardLayer(id, 0, x, 0),
    },
    'position of forwardLayer': {
      takes: whole(0, 1),
      call: (x) => native.forwardLayer(id, 0, row(), x),
    },
    'sequenceId of forwardLayer': {
      takes: orNone(whole(0, 1)),
      call: (x) => native.forwardLayer(id, 0, row(), 0, x),
    },
    computeLogits: {
      takes: noValues,
      call: (x) => native.computeLogits(id, x),
    },
    getTensor: { takes: nothing, call: (x) => native.getTensor(id, x) },
    ...Object.fromEntries(
      Object.entries({
        embedTokens: (x) => native.embedTokens(x, [1]),
        forwardLayer: (x) => native.forwardLayer(x, 0, row(), 0),
        computeLogits: (x) => native.computeLogits(x, row()),
        getTensor: (x) => native.getTensor(x, 'output_norm.weight'),
        getModelInfo: (x) => native.getModelInfo(x),
        removeModel: (x) => native.removeModel(x),
      }).map(([name, call]) => [`modelId of ${name}`, { takes: (x) => x === id, call }]),
    ),
  },
}

/** Whether a value is right there; one that cannot even be read is not. */
function isTaken(takes, value) {
  try {
    return takes(value)
  } catch {
    return false
  }
}

for (const [entry, arguments_] of Object.entries(ENTRIES)) {
  describe(`a value that cannot be used is refused by ${entry}`, () => {
    for (const [name, { takes, call }] of Object.entries(arguments_)) {
      it(`as ${name}`, async () => {
        for (const [kind, value] of Object.entries(VALUES)) {
          if (isTaken(takes, value)) continue
          await assert.rejects(
            async () => await call(value),
            (error) => {
              assert.ok(error instanceof RealmError, `${kind}: ${error?.stack ?? error}`)
              assert.notEqual(error.code, 'INTERNAL', `${kind}: ${error.message}`)
              assert.ok(error.message.length < 2000, kind)
              return true
            },
            kind,
          )
        }
      })
    }
  })
}

describe('a value that cannot be used', () => {
  it('leaves everything working', async () => {
    assert.equal((await model.generate('Once', ANSWER)).tokens.length, 2)
    assert.equal(native.embedTokens(id, [1]).length, model.hiddenSize)
  })

  it('has what its getter threw as the cause', async () => {
    const isRefused = { code: 'INVALID_ARGUMENT', cause: failure }
    await assert.rejects(Realm.create(getters), isRefused)
    await assert.rejects(model.generate('a', getters), isRefused)
    assert.throws(() => model.session(getters), isRefused)
  })

  it('is refused when it is a source that somebody else reads, or no address', async () => {
    const locked = new Blob([readFileSync(bundledModel)]).stream()
    locked.getReader()
    for (const source of [locked, 'http://', 'file://host/x.gguf'])
      await assert.rejects(realm.load(source), { name: 'RealmError', code: 'INVALID_ARGUMENT' })
  })
})
