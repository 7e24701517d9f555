/**
 * LoRA adapters: at load, per answer, in sessions, swapped.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { LoraAdapter, Realm } from '@realm-ai/realm'
import * as native from '@realm-ai/realm/native'
import { merged, randomLora, writeLora } from './support/lora.mjs'
import { bundledModel, conformanceKit, GREEDY, layerLogits, root } from './support/models.mjs'

let realm
let model
let folder
let paths
/** What the model says with each list of adapters, alone. */
let said

const PROMPT = 'Once upon a time'
const SETTINGS = { ...GREEDY, maxTokens: 24, ignoreEos: true }

/** Shapes of the matrices of all layers. */
async function shapes(model) {
  const names = model.tensorNames().filter((name) => /^blk\.\d+\.(attn|ffn)_\w+\.weight/.test(name))
  const tensors = await Promise.all(names.map(async (name) => [name, await model.tensor(name)]))
  const matrices = tensors.filter(([, { shape }]) => shape.length === 2)
  return Object.fromEntries(matrices.map(([name, { shape }]) => [name, shape]))
}

async function say(options) {
  return (await model.generate(PROMPT, { ...SETTINGS, ...options })).text
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'realm-lora-'))
  realm = await Realm.create()
  model = await realm.load(bundledModel, { contextLength: 512 })
  const { architecture } = model.info
  paths = ['first', 'second'].map((name) => join(folder, `${name}.gguf`))
  for (const [i, path] of paths.entries()) {
    const lora = randomLora(await shapes(model), { seed: i + 1 })
    await writeLora(path, lora, { architecture, name: `adapter ${i + 1}` })
  }
  const [first, second] = await Promise.all(paths.map((path) => model.loadAdapter(path)))
  said = {
    none: await say({}),
    first: await say({ lora: first }),
    second: await say({ lora: [{ adapter: second, scale: 0.75 }] }),
    both: await say({ lora: [first, { adapter: second, scale: -0.5 }] }),
  }
  first.dispose()
  second.dispose()
})
after(async () => {
  await realm.dispose()
  rmSync(folder, { recursive: true })
})

const refused =
  (code, ...parts) =>
  (error) =>
    error.name === 'RealmError' &&
    error.code === code &&
    parts.every((part) => error.message.includes(part))

describe('an adapter', () => {
  it('gives what the model gives with the adapter merged into its file', async () => {
    const bytes = gunzipSync(readFileSync(join(conformanceKit(), 'models/llama/model.gguf.gz')))
    const base = await realm.load(bytes)
    const lora = randomLora(await shapes(base), { seed: 5, rank: 3 })
    const path = join(folder, 'tiny.gguf')
    await writeLora(path, lora)
    const changed = Buffer.from(bytes)
    for (const { name } of lora.pairs) {
      const { data } = await base.tensor(name)
      const at = bytes.indexOf(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
      assert.ok(at > 0, `${name} is stored as it is`)
      changed.set(new Uint8Array(merged(data, lora, name, 0.5).buffer), at)
    }
    const mergedModel = await realm.load(changed)
    const ids = [5, 9, 30, 1, 2, 31, 7]
    const plain = (await layerLogits(base, ids)).at(-1)
    base.setLora({ adapter: await base.loadAdapter(path), scale: 0.5 })
    const got = (await layerLogits(base, ids)).at(-1)
    const want = (await layerLogits(mergedModel, ids)).at(-1)
    const distance = (a, b) => Math.max(...a.map((value, i) => Math.abs(value - b[i])))
    assert.ok(distance(plain, want) > 0.1, 'the adapter shows')
    assert.ok(distance(got, want) < 1e-4, `${distance(got, want)} apart`)
    const [prompt, settings] = [
      Uint32Array.from(ids),
      { ...GREEDY, maxTokens: 12, ignoreEos: true },
    ]
    const [a, b] = await Promise.all(
      [base, mergedModel].map((model) => model.generate(prompt, settings)),
    )
    assert.deepEqual(a.tokens, b.tokens)
    await Promise.all([base.dispose(), mergedModel.dispose()])
  })

  it('says what it is', async () => {
    const adapter = await model.loadAdapter(paths[0])
    assert.ok(adapter instanceof LoraAdapter)
    assert.deepEqual([adapter.name, adapter.rank], ['adapter 1', 4])
    const { alpha, tensorCount, bytes } = adapter.info
    assert.equal(alpha, 8)
    assert.equal(tensorCount, Object.keys(await shapes(model)).length)
    assert.ok(bytes > 1000 && bytes < readFileSync(paths[0]).length)
    adapter.dispose()
  })

  it('is loaded from bytes too, and changes nothing until it is named', async () => {
    const adapter = await model.loadAdapter(readFileSync(paths[0]))
    assert.equal(await say({}), said.none)
    assert.equal(await say({ lora: adapter }), said.first)
    adapter.dispose()
  })

  it('is for one model, and for as long as it is not disposed of', async () => {
    const other = await realm.load(bundledModel, { contextLength: 64 })
    const foreign = await other.loadAdapter(paths[0])
    await assert.rejects(say({ lora: foreign }), refused('INVALID_ARGUMENT', 'another model'))
    const adapter = await model.loadAdapter(paths[0])
    adapter.dispose()
    adapter.dispose()
    await assert.rejects(say({ lora: adapter }), refused('DISPOSED', 'adapter'))
    assert.throws(() => model.setLora(adapter), refused('DISPOSED', 'adapter'))
    await other.dispose()
    foreign.dispose()
    await assert.rejects(other.loadAdapter(paths[0]), refused('DISPOSED'))
  })

  it('that does not fit is refused by name', async () => {
    const write = async (name, shape, options) => {
      const path = join(folder, 'wrong.gguf')
      await writeLora(path, randomLora({ [name]: shape }), options)
      return path
    }
    const { architecture } = model.info
    const { shape } = await model.tensor('blk.0.attn_q.weight')
    let path = await write('blk.0.attn_q.weight', shape, { architecture: 'gpt2' })
    await assert.rejects(model.loadAdapter(path), refused('MODEL_INVALID', 'gpt2', architecture))
    path = await write('blk.99.attn_q.weight', shape, { architecture })
    await assert.rejects(model.loadAdapter(path), refused('MODEL_INVALID', 'blk.99.attn_q.weight'))
    path = await write('blk.0.attn_q.weight', [shape[0], shape[1] + 1], { architecture })
    await assert.rejects(model.loadAdapter(path), refused('MODEL_INVALID', `${shape[1] + 1}`))
    path = await write('blk.0.attn_norm.weight', [shape[0], 1], { architecture })
    await assert.rejects(model.loadAdapter(path), refused('MODEL_UNSUPPORTED', 'attn_norm'))
    await assert.rejects(model.loadAdapter(bundledModel), refused('MODEL_INVALID', 'general.type'))
    const garbage = join(folder, 'garbage.gguf')
    writeFileSync(garbage, readFileSync(paths[0]).subarray(0, 300))
    await assert.rejects(model.loadAdapter(garbage), refused('MODEL_INVALID'))
    await assert.rejects(model.loadAdapter(join(folder, 'none')), refused('MODEL_NOT_FOUND'))
    const signal = AbortSignal.abort()
    await assert.rejects(model.loadAdapter(paths[0], { signal }), refused('ABORTED'))
  })
})

describe('answers', () => {
  it('differ by their adapters', () => {
    assert.equal(new Set(Object.values(said)).size, 4, JSON.stringify(said))
  })

  it('with different adapters run side by side, each as alone', async () => {
    const [first, second] = await Promise.all(paths.map((path) => model.loadAdapter(path)))
    const texts = await Promise.all([
      say({ lora: [first, { adapter: second, scale: -0.5 }] }),
      say({}),
      say({ lora: [{ adapter: second, scale: 0.75 }] }),
      say({ lora: { adapter: first } }),
    ])
    assert.deepEqual(texts, [said.both, said.none, said.second, said.first])
    first.dispose()
    second.dispose()
  })

  it('refuse what is no list of adapters', async () => {
    const adapter = await model.loadAdapter(paths[0])
    for (const lora of [
      'x',
      3,
      null,
      [paths[0]],
      { adapter, scale: Number.NaN },
      { adapter, scale: 1e300 },
      { adapter, s: 1 },
    ])
      await assert.rejects(say({ lora }), refused('INVALID_ARGUMENT', 'lora', 'loadAdapter'))
    adapter.dispose()
  })

  it('go on when their adapter is disposed of or replaced', async () => {
    const adapter = await model.loadAdapter(paths[0])
    model.setLora(adapter)
    const answer = model.generate(PROMPT, SETTINGS)
    let text = ''
    for await (const chunk of answer) {
      if (text === '') adapter.dispose()
      text += chunk.text
    }
    assert.equal(text, said.first)
    assert.deepEqual(model.lora, [])
    assert.equal(await say({}), said.none)
  })
})

describe("a model's own list", () => {
  it('is what runs without one, and can be swapped at any time', async () => {
    const [first, second] = await Promise.all(paths.map((path) => model.loadAdapter(path)))
    model.setLora([first, { adapter: second, scale: -0.5 }])
    assert.deepEqual(model.lora, [
      { adapter: first, scale: 1 },
      { adapter: second, scale: -0.5 },
    ])
    assert.equal(await say({}), said.both)
    assert.equal(await say({ lora: [] }), said.none)
    model.setLora({ adapter: second, scale: 0.75 })
    assert.equal(await say({}), said.second)
    model.setLora([])
    assert.equal(await say({}), said.none)
    first.dispose()
    second.dispose()
  })

  it('can be loaded with the model', async () => {
    for (const lora of [paths[0], { path: paths[0], scale: 1 }, [{ path: paths[0] }]]) {
      const loaded = await realm.load(bundledModel, { contextLength: 512, lora })
      assert.equal((await loaded.generate(PROMPT, SETTINGS)).text, said.first)
      assert.equal(loaded.lora[0].adapter.name, 'adapter 1')
      await loaded.dispose()
    }
    const load = (lora) => realm.load(bundledModel, { contextLength: 512, lora })
    const missing = join(folder, 'missing')
    await assert.rejects(load([paths[0], missing]), refused('MODEL_NOT_FOUND', 'missing'))
    await assert.rejects(load({ path: 3 }), refused('INVALID_ARGUMENT', 'lora'))
    const vocabOnly = realm.load(bundledModel, { vocabOnly: true, lora: paths[0] })
    await assert.rejects(vocabOnly, refused('INVALID_ARGUMENT', 'vocabOnly'))
  })

  it('counts for layers, embeddings and the native API', async () => {
    const ids = model.tokenize(PROMPT)
    const [plainRow, plainVector] = [(await layerLogits(model, ids)).at(-1), await model.embed(ids)]
    const adapter = await model.loadAdapter(paths[0])
    model.setLora(adapter)
    const row = (await layerLogits(model, ids, { sequence: 1 })).at(-1)
    assert.notDeepEqual(row, plainRow)
    assert.notDeepEqual(await model.embed(ids), plainVector)
    adapter.dispose()
    assert.deepEqual(await model.embed(ids), plainVector)

    const id = native.storeModel(bundledModel, { lora: paths[0] })
    let hidden = native.embedTokens(id, ids)
    for (let layer = 0; layer < model.layerCount; layer++)
      hidden = native.forwardLayer(id, layer, hidden, 0)
    const logits = native.computeLogits(id, hidden)
    assert.deepEqual(logits.slice(-model.vocabularySize), row.slice())
    native.removeModel(id)
    const refusal = refused('MODEL_NOT_FOUND')
    assert.throws(() => native.storeModel(bundledModel, { lora: join(folder, 'none') }), refusal)
  })
})

describe('the realm command', () => {
  const bin = join(root, 'dist', 'bin.js')
  const run = (...lora) => {
    const options = ['--max-tokens', '24', '--temperature', '0', '--json', '--raw']
    const args = [bin, 'run', '--model', bundledModel, ...options, ...lora, PROMPT]
    return spawnSync(process.execPath, args, { encoding: 'utf8' })
  }

  it('takes adapters with their scales', async () => {
    const [first, second] = await Promise.all(paths.map((path) => model.loadAdapter(path)))
    const options = { ...GREEDY, maxTokens: 24 }
    for (const [flags, lora] of [
      [['--lora', paths[0]], first],
      [
        ['--lora', `${paths[0]}:1.0`, '--lora', `${paths[1]}:-.5`],
        [first, { adapter: second, scale: -0.5 }],
      ],
    ]) {
      const { text } = await model.generate(PROMPT, { ...options, lora })
      assert.equal(JSON.parse(run(...flags).stdout).text, text)
    }
    first.dispose()
    second.dispose()
    const { stderr, status } = run('--lora', `${paths[0]}.missing:2`)
    assert.match(stderr, /MODEL_NOT_FOUND: .*first\.gguf\.missing/)
    assert.equal(status, 1)
  })
})

describe('a session', () => {
  const settings = { ...GREEDY, maxTokens: 20 }
  const QUESTION = 'Tell me a story about a fox.'

  it('keeps its adapters, also in a fork, and reads nothing twice', async () => {
    const adapter = await model.loadAdapter(paths[0])
    const session = model.session({ ...settings, lora: adapter })
    const { text } = await session.send(QUESTION)
    const chat = await model.chat([{ role: 'user', content: QUESTION }], settings)
    assert.notEqual(text, chat.text)
    const fork = session.fork()
    const [a, b] = [await session.send('And then?'), await fork.send('And then?')]
    assert.equal(a.text, b.text)
    assert.ok(a.usage.cachedTokens > 0 && b.usage.cachedTokens > 0)
    await fork.dispose()
    await session.dispose()
    adapter.dispose()
  })

  it('reads everything again when its adapters change', async () => {
    const adapter = await model.loadAdapter(paths[0])
    const session = model.session(settings)
    await session.send(QUESTION)
    const messages = [...session.messages, { role: 'user', content: 'And then?' }]
    const answer = await session.send('And then?', { lora: adapter })
    assert.equal(answer.usage.cachedTokens, 0)
    const chat = await model.chat(messages, { ...settings, lora: adapter })
    assert.equal(answer.text, chat.text)
    await session.dispose()
    adapter.dispose()
  })

  it('is saved without its adapters and restored to those it has', async () => {
    const adapter = await model.loadAdapter(paths[0])
    const session = model.session({ ...settings, lora: adapter })
    await session.send(QUESTION)
    const saved = session.save()
    const want = await session.send('And then?')
    session.restore(saved)
    assert.equal((await session.send('And then?')).text, want.text)
    await session.dispose()
    adapter.dispose()
  })
})
