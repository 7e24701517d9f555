/** flare's engine on a thread of its own. */

import init, { FlareEngine } from '/flare/flare_web.js'

let engine

// A promise that fails in a worker would tell nobody.
self.onunhandledrejection = ({ reason }) => self.postMessage({ error: String(reason) })

self.onmessage = async ({ data: { model, text, maxTokens } }) => {
  if (model) {
    await init({ module_or_path: '/flare/flare_web_bg.wasm' })
    engine = FlareEngine.load(new Uint8Array(await model.arrayBuffer()))
    self.postMessage(null)
    return
  }
  engine.reset()
  const ids = engine.encode_text(text)
  engine.begin_stream(ids, maxTokens)
  let made = 0
  while (engine.next_token() !== undefined) made++
  self.postMessage({ promptTokens: ids.length, made })
}
