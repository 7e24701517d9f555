/**
 * What the facade refuses, and in which words.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Realm, RealmError } from '@realm-ai/realm'
import { bundledModel, root } from './support/models.mjs'

let realm
let model

before(async () => {
  realm = await Realm.create()
  model = await realm.load(bundledModel)
})
after(() => realm.dispose())

/** An expected INVALID_ARGUMENT whose message has all these parts. */
function invalid(...parts) {
  return (error) => {
    assert.ok(error instanceof RealmError, error.stack)
    assert.equal(error.code, 'INVALID_ARGUMENT')
    for (const part of parts) assert.ok(error.message.includes(part), error.message)
    return true
  }
}

describe('an option of generate', () => {
  const wrong = [
    ['maxTokens', 0],
    ['maxTokens', 1.5],
    ['maxTokens', '10'],
    ['temperature', -0.1],
    ['temperature', Number.NaN],
    ['temperature', Number.POSITIVE_INFINITY],
    ['temperature', 1e300],
    ['topK', -1],
    ['topP', 1.01],
    ['minP', -0.5],
    ['repeatPenalty', 0],
    ['repeatPenalty', 1e-300],
    ['repeatPenalty', 1e300],
    ['repeatLastN', -1],
    ['seed', -1],
    ['seed', null],
    ['stop', ''],
    ['stop', ['ok', 3]],
    ['minTokens', -1],
    ['ignoreEos', 'yes'],
    ['echo', 1],
    ['signal', {}],
    ['addSpecial', 'no'],
  ]
  for (const [name, value] of wrong) {
    it(`is refused by name when ${name} is ${JSON.stringify(value)}`, async () => {
      const shown = value === null ? 'null' : ''
      await assert.rejects(
        model.generate('x', { [name]: value }),
        invalid(`generate options.${name}: expected`, 'got', shown),
      )
    })
  }

  it('is refused when its name is unknown, with the names that exist', async () => {
    await assert.rejects(
      model.generate('x', { max_tokens: 3 }),
      invalid('max_tokens', 'maxTokens', 'temperature'),
    )
  })

  for (const name of ['grammar', 'jsonSchema', 'logitBias', 'typicalP', 'tenant', 'priority']) {
    it(`is refused as not supported yet: ${name}`, async () => {
      await assert.rejects(model.generate('x', { [name]: 1 }), invalid(name, 'not supported yet'))
    })
  }

  it('may be undefined, which is the default', async () => {
    const { tokens } = await model.generate('x', {
      maxTokens: 1,
      seed: undefined,
      grammar: undefined,
    })
    assert.equal(tokens.length, 1)
  })

  it('must come in an object', async () => {
    await assert.rejects(model.generate('x', 5), invalid('an object', 'got 5'))
    await assert.rejects(model.generate('x', [1]), invalid('an object', 'an array'))
  })
})

describe('other arguments', () => {
  it('are refused where a prompt is neither text nor ids', async () => {
    await assert.rejects(model.generate(42), invalid('prompt', 'token ids', '42'))
    await assert.rejects(model.generate([1, -2]), invalid('prompt[1]', '-2'))
    await assert.rejects(model.generate(undefined), invalid('prompt', 'undefined'))
  })

  it('are refused where an id is outside the vocabulary', async () => {
    const id = model.vocabularySize
    await assert.rejects(model.generate([1, id]), invalid(String(id)))
    await assert.rejects(model.embedTokens([id]), invalid(String(id)))
    const options = { position: -1 }
    await assert.rejects(
      model.embedTokens([1], options),
      invalid('embedTokens options.position: expected', '-1'),
    )
    assert.throws(() => model.detokenize([id]), invalid(String(id)))
  })

  it('are refused where text is no string', () => {
    assert.throws(() => model.tokenize(7), invalid('text', 'a string', '7'))
    assert.throws(() => model.tokenize('x', { special: true }), invalid('special', 'addSpecial'))
  })

  it('are refused where messages are no messages', async () => {
    await assert.rejects(model.chat('hello'), invalid('messages', 'an array', '"hello"'))
    await assert.rejects(model.chat([{ content: 'x' }]), invalid('messages[0].role'))
    await assert.rejects(model.chat([{ role: 'user', content: 3 }]), invalid('messages[0].content'))
    const loop = {}
    loop.self = loop
    await assert.rejects(
      model.chat([{ role: 'user', content: 'x', extra: loop }]),
      invalid('messages', 'JSON'),
    )
  })

  it('are refused where a layer does not exist', async () => {
    const hidden = new Float32Array(model.hiddenSize)
    await assert.rejects(model.forwardLayer(model.layerCount, hidden), invalid('layer'))
    await assert.rejects(model.forwardLayer(-1, hidden), invalid('layer'))
    await assert.rejects(model.forwardLayer(0, hidden, { position: -1 }), invalid('position'))
    await assert.rejects(model.forwardLayer(0, 'x'), invalid('hidden', 'activations'))
  })

  it('have the wrong shape where activations are not whole rows', async () => {
    const hidden = new Float32Array(model.hiddenSize + 1)
    const isShape = { name: 'RealmError', code: 'SHAPE_MISMATCH' }
    await assert.rejects(model.forwardLayer(0, hidden), isShape)
    await assert.rejects(model.computeLogits(hidden), isShape)
    await assert.rejects(model.computeLogits(new Uint8Array(7)), isShape)
  })

  it('are refused where a tensor does not exist', async () => {
    await assert.rejects(model.tensor('blk.99.attn_q.weight'), invalid('blk.99.attn_q.weight'))
  })
})

describe('loading refuses', () => {
  it('unknown and reserved options', async () => {
    await assert.rejects(realm.load(bundledModel, { nCtx: 3 }), invalid('nCtx', 'contextLength'))
    await assert.rejects(realm.load(bundledModel, { layout: 'x' }), invalid("'packed'", '"x"'))
    await assert.rejects(realm.load(bundledModel, { kvCacheType: 'q8' }), invalid("'q8_0'", '"q8"'))
    await assert.rejects(Realm.create({ memoryLimit: 0 }), invalid('memoryLimit', 'at least 1'))
    await assert.rejects(Realm.create({ threads: -1 }), invalid('threads'))
  })

  it('sources of no known kind', async () => {
    for (const source of [undefined, null, 7, '', {}, []])
      await assert.rejects(realm.load(source), invalid('model source'))
  })

  it('backends that do not exist', async () => {
    await assert.rejects(Realm.create({ backend: 'abacus' }), {
      code: 'BACKEND_UNAVAILABLE',
      message: /abacus.*cpu/,
    })
  })

  it('files that are not there', async () => {
    await assert.rejects(realm.load('/no/such/model.gguf'), { code: 'MODEL_NOT_FOUND' })
    await assert.rejects(realm.load(new URL('file:///no/such/model.gguf')), {
      code: 'MODEL_NOT_FOUND',
    })
  })

  it('files that are no models', async () => {
    await assert.rejects(realm.load(join(root, 'package.json')), { code: 'MODEL_INVALID' })
    await assert.rejects(realm.load(new Uint8Array(100)), { code: 'MODEL_INVALID' })
  })

  it('when its signal was aborted', async () => {
    await assert.rejects(realm.load(bundledModel, { signal: AbortSignal.abort() }), {
      code: 'ABORTED',
    })
  })
})

describe('what was disposed of', () => {
  it('says so on every call', async () => {
    const other = await realm.load(bundledModel)
    await other.dispose()
    await other.dispose()
    const isDisposed = { name: 'RealmError', code: 'DISPOSED' }
    assert.throws(() => other.tokenize('x'), isDisposed)
    assert.throws(() => other.detokenize([1]), isDisposed)
    assert.throws(() => other.session(), isDisposed)
    assert.throws(() => other.tensorNames(), isDisposed)
    assert.throws(() => other.applyChatTemplate([]), isDisposed)
    await assert.rejects(other.generate('x'), isDisposed)
    await assert.rejects(other.chat([{ role: 'user', content: 'x' }]), isDisposed)
    await assert.rejects(other.embedTokens([1]), isDisposed)
    await assert.rejects(other.tensor('output_norm.weight'), isDisposed)
    assert.equal(other.info.architecture, 'llama', 'what it was can still be read')
  })

  it('takes its models along when it is a realm', async () => {
    const another = await Realm.create()
    const owned = await another.load(bundledModel)
    await another[Symbol.asyncDispose]()
    assert.throws(() => owned.tokenize('x'), { code: 'DISPOSED' })
    await assert.rejects(another.load(bundledModel), { code: 'DISPOSED' })
  })
})
