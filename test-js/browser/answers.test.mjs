/**
 * The bundled model in a page: the same answers as elsewhere, whatever it is loaded from.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { launchChromium } from '../support/chromium.mjs'
import { bundledModel, referenceFile } from '../support/models.mjs'
import { openRealmPage, serveRealm } from './support/realm-page.mjs'

const expected = JSON.parse(readFileSync(referenceFile('expected.json'), 'utf8'))
const [story] = expected.prompts
const chat = expected.prompts.find(({ messages }) => messages)

describe('a model in a page', () => {
  let browser
  let server
  let page

  before(async () => {
    browser = await launchChromium()
    server = await serveRealm({ 'tiny.gguf': bundledModel })
    page = await openRealmPage(browser, server)
  })

  after(async () => {
    await browser?.close()
    server?.close()
  })

  const sources = {
    'its address': () => '/models/tiny.gguf',
    'a URL': () => new URL('/models/tiny.gguf', location.href),
    bytes: async () => new Uint8Array(await (await fetch('/models/tiny.gguf')).arrayBuffer()),
    'a Blob': async () => (await fetch('/models/tiny.gguf')).blob(),
    'a stream': async () => (await fetch('/models/tiny.gguf')).body,
    'a file handle': async () => {
      const folder = await navigator.storage.getDirectory()
      const handle = await folder.getFileHandle('tiny.gguf', { create: true })
      const file = await handle.createWritable()
      await (await fetch('/models/tiny.gguf')).body.pipeTo(file)
      return handle
    },
  }
  for (const [name, source] of Object.entries(sources)) {
    it(`gives the reference's greedy answer, loaded from ${name}`, async (t) => {
      const answer = await page.evaluate(
        async ([source, prompt]) => {
          // biome-ignore lint/security/noGlobalEval: a test's own function, on its way into a page
          const opened = await eval(`(${source})`)()
          return window.withModel(opened, async (model) => {
            const { text, finishReason, timings } = await model.generate(prompt, { temperature: 0 })
            return { text, finishReason, timings, info: model.info }
          })
        },
        [String(source), story.prompt],
      )
      t.diagnostic(`${answer.info.backend}: ${answer.info.backendReason}`)
      assert.equal(answer.text, story.greedy.Q8_0.text)
      assert.equal(answer.finishReason, story.greedy.Q8_0.ended ? 'stop' : 'length')
    })
  }

  it('takes the memory that was estimated before', async () => {
    const { estimates, memory, backend, layout } = await page.evaluate(async () => {
      const { Realm } = window.realm
      const source = '/models/tiny.gguf'
      const blob = await (await fetch(source)).blob()
      const estimates = [await Realm.estimate(source), await Realm.estimate(blob)]
      const { memory, backend, layout } = await window.withModel(source, (model) => model.info)
      return { estimates, memory, backend, layout }
    })
    for (const estimate of estimates) {
      const { contextLength, maxSequences, ...rest } = estimate
      assert.deepEqual(rest, { ...memory, backend, layout })
      assert.ok(contextLength > 0 && maxSequences > 0)
    }
    assert.ok(memory.total > memory.weights && memory.weights > 0)
  })

  it('rejects an estimate as it does a load', async () => {
    const failures = await page.evaluate(async () => {
      const { Realm } = window.realm
      return [
        await window.failure(() => Realm.estimate('/models/none.gguf')),
        await window.failure(() => Realm.estimate(new Uint8Array(64))),
        await window.failure(() => Realm.estimate('/models/tiny.gguf', { maxSequences: 5000 })),
        await window.failure(() =>
          Realm.estimate('/models/tiny.gguf', { signal: AbortSignal.abort() }),
        ),
      ]
    })
    const codes = failures.map(({ code }) => code)
    assert.deepEqual(codes, ['DOWNLOAD_FAILED', 'MODEL_INVALID', 'INVALID_ARGUMENT', 'ABORTED'])
  })

  it('tells the logger what the engine warns of', async () => {
    const entries = await page.evaluate(async () => {
      const entries = []
      const logger = (entry) => entries.push(entry)
      await window.withModel('/models/tiny.gguf', () => {}, { contextLength: 1024 }, { logger })
      return entries
    })
    const warnings = entries.filter(({ level }) => level === 'warn')
    assert.match(warnings.map(({ message }) => message).join('\n'), /trained for 512 positions/)
  })

  it('names the kernel that runs: packed rows have one for vectors', async () => {
    const { layout, kernels } = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', (model) => model.info),
    )
    assert.equal(layout, 'packed')
    // The definition, which has no vectors, is what there is for the file's own rows.
    assert.equal(kernels.Q8_0, 'relaxed-simd')
  })

  it('streams chunks that make up the answer', async () => {
    const { chunks, text } = await page.evaluate(
      (prompt) =>
        window.withModel('/models/tiny.gguf', async (model) => {
          const generation = model.generate(prompt, { temperature: 0, maxTokens: 40 })
          const chunks = []
          for await (const chunk of generation) chunks.push(chunk.text)
          return { chunks, text: (await generation).text }
        }),
      story.prompt,
    )
    assert.ok(chunks.length > 20, `${chunks.length} chunks`)
    assert.equal(chunks.join(''), text)
  })

  it('stops within a step when its signal is aborted, and when the iteration is left', async () => {
    const [aborted, left] = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) => {
        const controller = new AbortController()
        const options = { temperature: 0, ignoreEos: true, signal: controller.signal }
        const first = model.generate('Once', options)
        for await (const { index } of first) if (index === 5) controller.abort()
        const second = model.generate('Once', { temperature: 0, ignoreEos: true })
        for await (const { index } of second) if (index === 5) break
        return [await first, await second].map(({ finishReason, tokens }) => [
          finishReason,
          tokens.length,
        ])
      }),
    )
    for (const [reason, n] of [aborted, left]) {
      assert.equal(reason, 'abort')
      assert.ok(n >= 6 && n < 40, `${n} tokens`)
    }
  })

  it('answers a chat through the template of the file', async () => {
    const answer = await page.evaluate(
      (messages) =>
        window.withModel('/models/tiny.gguf', async (model) => ({
          prompt: model.applyChatTemplate(messages),
          text: (await model.chat(messages, { temperature: 0, maxTokens: 256 })).text,
        })),
      chat.messages,
    )
    assert.equal(answer.prompt, chat.prompt)
    assert.equal(answer.text, chat.greedy.Q8_0.text)
  })

  it('keeps what a session has read, and forks it', async () => {
    const cached = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) => {
        const session = model.session({ temperature: 0, maxTokens: 8 })
        await session.send('Tell me about a dog.')
        const fork = session.fork()
        const results = [await session.send('And a cat.'), await fork.send('And a cat.')]
        await fork.dispose()
        return results.map(({ usage, text }) => [usage.cachedTokens, text])
      }),
    )
    assert.ok(cached[0][0] > 10, `${cached[0][0]} tokens were there`)
    assert.deepEqual(cached[0], cached[1])
  })

  it('tokenises as the references do, without waiting', async () => {
    const prompts = expected.prompts.map(({ prompt }) => prompt)
    const found = await page.evaluate(
      (prompts) =>
        window.withModel('/models/tiny.gguf', (model) =>
          prompts.map((prompt) => {
            const ids = model.tokenize(prompt, { parseSpecial: true })
            return { ids: [...ids], text: model.detokenize(ids, { special: true }) }
          }),
        ),
      prompts,
    )
    for (const [i, { ids, text }] of found.entries()) {
      assert.deepEqual(ids, expected.prompts[i].prompt_ids)
      assert.equal(text, prompts[i])
    }
  })

  it('runs layer by layer to the logits that llama.cpp has', async () => {
    const top = story.greedy.Q8_0.first_top5
    const { logits, best } = await page.evaluate(
      ([ids, wanted]) =>
        window.withModel('/models/tiny.gguf', async (model) => {
          let hidden = await model.embedTokens(ids)
          for (let layer = 0; layer < model.layerCount; layer++)
            hidden = await model.forwardLayer(layer, hidden)
          const logits = await model.computeLogits(hidden.slice(-model.hiddenSize))
          return {
            logits: wanted.map((id) => logits[id]),
            best: logits.indexOf(Math.max(...logits)),
          }
        }),
      [story.prompt_ids, top.map(([id]) => id)],
    )
    assert.equal(best, top[0][0])
    for (const [i, [, logit]] of top.entries()) assert.ok(Math.abs(logits[i] - logit) < 0.2)
  })

  it('turns texts into vectors of length 1, nearest to themselves', async () => {
    const vectors = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) =>
        (await model.embed(['A dog barks.', 'A dog barks.', 'The sea is deep.'])).map((v) => [
          ...v,
        ]),
      ),
    )
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0)
    const [first, same, other] = vectors
    assert.ok(Math.abs(dot(first, first) - 1) < 1e-5)
    assert.ok(Math.abs(dot(first, same) - 1) < 1e-5)
    assert.ok(dot(first, other) < 0.999)
  })

  it('ends requests when their signals say so, and goes on', async () => {
    const outcomes = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) => {
        const codes = []
        for (const start of [
          (signal) => model.embed(Array(500).fill('A dog barks.'), { signal }),
          (signal) => model.embedTokens(new Uint32Array(20_000).fill(5), { signal }),
        ]) {
          const controller = new AbortController()
          const result = start(controller.signal).catch((error) => error.code)
          controller.abort()
          codes.push(await result)
        }
        return [...codes, (await model.embed('x')).length]
      }),
    )
    assert.deepEqual(outcomes.slice(0, 2), ['ABORTED', 'ABORTED'])
    assert.ok(outcomes[2] > 0)
  })

  it('gives weights with their shapes', async () => {
    const tensor = await page.evaluate(() =>
      window.withModel('/models/tiny.gguf', async (model) => {
        const name = model.tensorNames().find((name) => name.endsWith('attn_q.weight'))
        const { data, shape, type } = await model.tensor(name)
        return { length: data.length, shape, type }
      }),
    )
    assert.equal(tensor.type, 'Q8_0')
    assert.equal(tensor.length, tensor.shape[0] * tensor.shape[1])
  })

  it('runs two models side by side, each to its own answer', async () => {
    const texts = await page.evaluate(
      async (prompts) => {
        const realm = await window.realm.Realm.create()
        const models = await Promise.all(prompts.map(() => realm.load('/models/tiny.gguf')))
        const answers = await Promise.all(
          models.map((model, i) => model.generate(prompts[i], { temperature: 0, maxTokens: 256 })),
        )
        await realm.dispose()
        return answers.map(({ text }) => text)
      },
      [story.prompt, chat.prompt],
    )
    assert.deepEqual(texts, [story.greedy.Q8_0.text, chat.greedy.Q8_0.text])
  })

  it('says what is wrong with the codes that Node has', async () => {
    const failures = await page.evaluate(async () => {
      const { Realm } = window.realm
      const realm = await Realm.create()
      const model = await realm.load('/models/tiny.gguf')
      const controller = new AbortController()
      const aborted = realm.load('/models/tiny.gguf', { signal: controller.signal })
      aborted.catch(() => {})
      controller.abort()
      const { failure } = window
      const small = await Realm.create({ memoryLimit: 1_000_000 })
      const found = {
        OUT_OF_MEMORY: await failure(() => small.load('/models/tiny.gguf')),
        DOWNLOAD_FAILED: await failure(() => realm.load('/models/nothing.gguf')),
        MODEL_INVALID: await failure(() => realm.load(new Uint8Array(4096))),
        INVALID_ARGUMENT: await failure(() => realm.load('/models/tiny.gguf', { layers: 3 })),
        BACKEND_UNAVAILABLE: await failure(() => Realm.create({ backend: 'cuda', fallback: [] })),
        TEMPLATE_ERROR: await failure(() => window.realm.renderChatTemplate('{% if %}', [])),
        SHAPE_MISMATCH: await failure(() => model.computeLogits([1, 2, 3])),
        KV_EXHAUSTED: await failure(() => model.generate(new Uint32Array(10_000))),
        ABORTED: await failure(() => aborted),
      }
      const generation = model.generate('Once', { ignoreEos: true })
      generation.catch(() => {})
      await model.dispose()
      found.DISPOSED = await failure(() => generation)
      await realm.dispose()
      return found
    })
    for (const [code, found] of Object.entries(failures)) {
      assert.equal(found?.code, code, `${code}: ${JSON.stringify(found)}`)
      assert.equal(found.name, 'RealmError')
    }
  })

  it('falls back to the CPU where there is no WebGPU, and says why', async (t) => {
    const found = await page.evaluate(async () => {
      const backends = await window.realm.Realm.backends()
      const reason = await window.withModel(
        '/models/tiny.gguf',
        (model) => [model.info.backend, model.info.backendReason],
        {},
        { backend: 'webgpu' },
      )
      const refusal = await window.failure(() =>
        window.realm.Realm.create({ backend: 'webgpu', fallback: [] }),
      )
      return { backends, reason, refusal }
    })
    const webgpu = found.backends.find(({ name }) => name === 'webgpu')
    assert.equal(webgpu.available, false)
    assert.equal(found.reason[0], 'cpu')
    assert.ok(found.reason[1].includes(webgpu.description), found.reason[1])
    assert.equal(found.refusal.code, 'BACKEND_UNAVAILABLE')
    t.diagnostic(found.reason[1])
  })
})
