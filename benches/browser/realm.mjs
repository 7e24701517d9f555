/** Realm as built in this checkout, without a GPU. */

import { Realm } from '/realm/index.mjs'

export async function open(model, { threads, contextLength }) {
  const realm = await Realm.create({ backend: 'cpu', fallback: [], threads })
  const loaded = await realm.load(model, { contextLength })
  const inUse = loaded.info.threads
  if (inUse !== threads) throw new Error(`realm: ${inUse} threads, expected ${threads}`)
  return {
    async generate(text, maxTokens) {
      const options = { maxTokens, temperature: 0, ignoreEos: true, addSpecial: true }
      const { usage } = await loaded.generate(text, options)
      return { promptTokens: usage.promptTokens, made: usage.completionTokens }
    },
    close: () => realm.dispose(),
  }
}
