/**
 * Models on a graphics device: the one in software that the tests install.
 */

import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY, referenceFile, withModel } from './support/models.mjs'

const PROMPT = 'Once upon a time'

/** The number of the one that computes in software among the devices. */
let device

before(async () => {
  const webgpu = (await Realm.backends()).find(({ name }) => name === 'webgpu')
  device = webgpu.devices.findIndex((name) => name.includes('in software'))
  assert.notEqual(device, -1, `none in software among: ${webgpu.devices.join(', ')}`)
})

describe('a device in software', () => {
  it('is not used unless it is named', async () => {
    const devices = (await Realm.backends()).find(({ name }) => name === 'webgpu').devices
    if (devices.some((name) => !name.includes('in software'))) return
    await assert.rejects(Realm.create({ backend: 'webgpu', fallback: [] }), {
      code: 'BACKEND_UNAVAILABLE',
      message: /in software/,
    })
    const realm = await Realm.create({ backend: 'webgpu' })
    const { info } = await realm.load(bundledModel)
    assert.equal(info.backend, 'cpu')
    assert.match(info.backendReason, /webgpu refused: .*software.*; cpu was next/)
    await realm.dispose()
  })

  it('answers as the CPU does, and beside it in one process', async () => {
    const gpu = await Realm.create({ backend: 'webgpu', device: String(device), fallback: [] })
    const cpu = await Realm.create({ backend: 'cpu' })
    // With float weights neither rounds its activations.
    const file = referenceFile('realm-tiny-stories-f16.gguf')
    const models = await Promise.all([gpu.load(file), cpu.load(file)])
    assert.deepEqual(
      models.map(({ info }) => info.backend),
      ['webgpu', 'cpu'],
    )
    assert.match(models[0].info.device, /in software/)
    const options = { ...GREEDY, maxTokens: 24 }
    const answers = await Promise.all(models.map((model) => model.generate(PROMPT, options)))
    assert.equal(answers[0].tokens.length, 24)
    assert.equal(answers[0].text, answers[1].text)
    await gpu.dispose()
    assert.equal((await models[1].generate(PROMPT, options)).text, answers[1].text)
    await cpu.dispose()
  })

  it('serves several models and answers at once', async () => {
    const realm = await Realm.create({ backend: 'webgpu', device: String(device), fallback: [] })
    const models = await Promise.all([realm.load(bundledModel), realm.load(bundledModel)])
    const options = { ...GREEDY, maxTokens: 12 }
    const running = [...models, ...models].map((model) => model.generate(PROMPT, options))
    const texts = (await Promise.all(running)).map(({ text }) => text)
    assert.deepEqual(new Set(texts).size, 1)
    await models[0].dispose()
    assert.equal((await models[1].generate(PROMPT, options)).text, texts[0])
    await realm.dispose()
  })

  it('runs layers one by one', async () => {
    const layer = async (model) => {
      const hidden = await model.forwardLayer(0, await model.embedTokens([1, 2, 3]))
      return model.computeLogits(hidden)
    }
    const expected = await withModel(bundledModel, layer, { backend: 'cpu' })
    const realm = await Realm.create({ backend: 'webgpu', device: String(device), fallback: [] })
    const found = await layer(await realm.load(bundledModel))
    const size = Math.hypot(...expected) / Math.sqrt(expected.length)
    found.forEach((value, i) => {
      assert.ok(Math.abs(value - expected[i]) < 0.05 * size, `${value} for ${expected[i]}`)
    })
    await realm.dispose()
  })
})

describe('a device that is not there', () => {
  it('is refused with the names of those that are', async () => {
    const realm = await Realm.create({ backend: 'webgpu', device: 'abacus', fallback: [] })
    await assert.rejects(realm.load(bundledModel), {
      code: 'BACKEND_UNAVAILABLE',
      message: /no device is called "abacus"; found: /,
    })
  })

  it('leaves the model to the fallback', async () => {
    const realm = await Realm.create({ backend: 'webgpu', device: 'abacus', fallback: 'cpu' })
    const { info } = await realm.load(bundledModel)
    assert.equal(info.backend, 'cpu')
    assert.match(info.backendReason, /webgpu refused: .*abacus/)
    await realm.dispose()
  })
})
