/**
 * node-llama-cpp on the CPU, with its own defaults where `threads` and
 * `contextLength` do not decide: flash attention, f16 keys and values, mmap.
 */

import { getLlama, getModuleVersion, LlamaLogLevel } from 'node-llama-cpp'

export const version = await getModuleVersion()

export async function open({ path, threads, contextLength }) {
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  })
  const model = await llama.loadModel({ modelPath: path })
  const context = await model.createContext({
    contextSize: contextLength,
    threads: { ideal: threads, min: threads },
  })
  const sequence = context.getSequence()
  return {
    vocabularySize: model.fileInfo.metadata.tokenizer.ggml.tokens.length,
    /** Yields the tokens of a greedy answer of `nTokens` tokens to token ids. */
    async *generate(ids, nTokens) {
      await sequence.clearHistory()
      let nLeft = nTokens
      for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        yield [token]
        nLeft--
        if (nLeft === 0) break
      }
      // The last token comes out of the answer and does not go in again.
      expectEqual('tokens in the KV cache', sequence.nextTokenIndex, ids.length + nTokens - 1)
      expectEqual('threads', context.currentThreads, threads)
    },
    close: () => llama.dispose(),
  }
}

function expectEqual(what, found, expected) {
  if (found !== expected) throw new Error(`node-llama-cpp: ${found} ${what}, expected ${expected}`)
}
