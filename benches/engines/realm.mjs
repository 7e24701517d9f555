/** Realm on the CPU: the package as built in this checkout, through its public API. */

import { createRequire } from 'node:module'
import { Realm } from '../../dist/index.mjs'

export const version = createRequire(import.meta.url)('../../package.json').version

export async function open({ path, threads, contextLength, loadOptions }) {
  const realm = await Realm.create({ backend: 'cpu', threads })
  const model = await realm.load(path, { contextLength, ...loadOptions })
  return {
    vocabularySize: model.vocabularySize,
    /** Yields the tokens of a greedy answer of `nTokens` tokens to token ids. */
    async *generate(ids, nTokens) {
      const options = { maxTokens: nTokens, temperature: 0, ignoreEos: true }
      const generation = model.generate(Uint32Array.from(ids), options)
      for await (const { tokens } of generation) yield tokens
      const { usage } = await generation
      expectEqual('prompt tokens', usage.promptTokens, ids.length)
      expectEqual('cached prompt tokens', usage.cachedTokens, 0)
      expectEqual('tokens made', usage.completionTokens, nTokens)
    },
    close: () => realm.dispose(),
  }
}

function expectEqual(what, found, expected) {
  if (found !== expected) throw new Error(`realm: ${found} ${what}, expected ${expected}`)
}
