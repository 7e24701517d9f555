/**
 * The browser package in Firefox, whose files and workers are other people's work.
 */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { it } from 'node:test'
import { runInFirefox } from '../support/firefox.mjs'
import { randomGguf } from '../support/gguf.mjs'
import { bundledModel, referenceFile } from '../support/models.mjs'
import { serveRealm } from './support/realm-page.mjs'
import { serveSourcesPage } from './support/sources-page.mjs'

it('Firefox downloads, shares, keeps and deletes a model', async (t) => {
  const server = await serveSourcesPage()
  t.after(() => server.close())
  const content = randomGguf(1_234_567)
  const sha256 = createHash('sha256').update(content).digest('hex')
  server.files.set('/model.gguf', { bytes: content, etag: '"v1"' })
  server.files.set('/whole.gguf', { bytes: content, ranges: false })
  const seen = await runInFirefox(
    server,
    async () => {
      while (!window.isReady) await new Promise((resolve) => setTimeout(resolve, 20))
      const url = `${location.origin}/model.gguf`
      const options = { policy: { pieceBytes: 65536 } }
      const open = (source) => window.call('open', [source, options])
      // Two have the file open at once.
      const twice = await Promise.all([open(url), open(url)])
      const whole = await open(`${location.origin}/whole.gguf`)
      const remove = () => window.cache.delete(url).catch(({ code }) => code)
      const used = await remove()
      const bytes = await window.call('read', [twice[1].id, 5, 3])
      for (const { id } of twice) await window.call('close', [id])
      return { twice, whole, used, bytes, size: await window.cache.size(), gone: await remove() }
    },
    { modules: ['/page.js'] },
  )
  for (const opened of [...seen.twice, seen.whole]) assert.deepEqual(opened.sha256, [sha256])
  assert.equal(server.sentBytes('/model.gguf'), content.length)
  assert.deepEqual(seen.bytes, [...content.subarray(5, 8)])
  assert.equal(seen.used, 'IN_USE')
  assert.equal(seen.size, 2 * content.length)
  assert.equal(seen.gone, true)
})

it('Firefox gives the same answer as elsewhere', async (t) => {
  const [story] = JSON.parse(readFileSync(referenceFile('expected.json'), 'utf8')).prompts
  const server = await serveRealm({ 'tiny.gguf': bundledModel })
  t.after(() => server.close())
  server.files.set('/prompt.js', {
    bytes: Buffer.from(`window.prompt = ${JSON.stringify(story.prompt)}`),
    type: 'text/javascript',
  })
  const { text, backend, reason } = await runInFirefox(
    server,
    async () => {
      const realm = await window.realm.Realm.create({ backend: 'cpu' })
      const model = await realm.load('/models/tiny.gguf')
      const result = await model.generate(window.prompt, { temperature: 0, maxTokens: 256 })
      const { backend, backendReason: reason } = model.info
      await realm.dispose()
      return { text: result.text, backend, reason }
    },
    { modules: ['/page.js', '/prompt.js'] },
  )
  t.diagnostic(`${backend}: ${reason}`)
  assert.equal(text, story.greedy.Q8_0.text)
})
