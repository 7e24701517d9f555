/** wllama: llama.cpp compiled to WebAssembly, without a GPU and without caching of prompts. */

import { LoggerWithoutDebug, Wllama } from '/wllama/index.js'

export async function open(model, { threads, contextLength }) {
  const wllama = new Wllama(
    { default: '/wllama/wasm/wllama.wasm' },
    { logger: LoggerWithoutDebug, suppressNativeLog: true },
  )
  await wllama.loadModel([model], { n_threads: threads, n_ctx: contextLength, n_gpu_layers: 0 })
  const inUse = wllama.isMultithread() ? wllama.getNumThreads() : 1
  if (inUse !== threads) throw new Error(`wllama: ${inUse} threads, expected ${threads}`)
  return {
    async generate(text, maxTokens) {
      const { usage } = await wllama.createCompletion({
        prompt: text,
        max_tokens: maxTokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
      })
      return { promptTokens: usage.prompt_tokens, made: usage.completion_tokens }
    },
    close: () => wllama.exit(),
  }
}
