/**
 * Models of a page for code that was written for models of this process.
 */

import { RealmError } from '@realm-ai/realm'

/**
 * `withModel` of `support/models.mjs`, in a page of the package.
 *
 * @param server the page's server, which hands the model over
 */
export function pageModels(page, server) {
  return async (bytes, use, { backend, device, ...options } = {}) => {
    server.files.set('/models/case.gguf', { bytes: Buffer.from(bytes) })
    const realmOptions = backend === undefined ? {} : { backend, device, fallback: [] }
    const facts = await inPage(
      async ([options, realmOptions]) => {
        const source = await (await fetch('/models/case.gguf')).blob()
        window.caseRealm = await window.realm.Realm.create(realmOptions)
        window.caseModel = await window.caseRealm.load(source, options)
        const { layerCount, vocabularySize, hiddenSize, info } = window.caseModel
        return { layerCount, vocabularySize, hiddenSize, info }
      },
      [options, realmOptions],
    )
    try {
      return await use({
        ...facts,
        embedTokens: (ids, options) => numbers('embedTokens', [[...ids], options]),
        forwardLayer: (layer, hidden, options) =>
          numbers('forwardLayer', [layer, [...hidden], options]),
        computeLogits: (hidden) => numbers('computeLogits', [[...hidden]]),
        generate: (prompt, options) => call('generate', [prompt, options]),
      })
    } finally {
      await page.evaluate(() => window.caseRealm.dispose())
    }
  }

  async function numbers(method, args) {
    return Float32Array.from(await call(method, args))
  }

  /** A method of the model; typed arrays come back as plain ones. */
  function call(method, args) {
    return inPage(
      async ([method, args]) => {
        const result = await window.caseModel[method](...args)
        if (ArrayBuffer.isView(result)) return [...result]
        return { text: result.text, tokens: [...result.tokens] }
      },
      [method, args],
    )
  }

  async function inPage(run, argument) {
    const { result, error } = await page.evaluate(
      async ([run, argument]) => {
        try {
          // biome-ignore lint/security/noGlobalEval: a function of this module, in the page
          return { result: await eval(`(${run})`)(argument) }
        } catch ({ code, message }) {
          return { error: { code, message } }
        }
      },
      [String(run), argument],
    )
    if (error) throw new RealmError(error.code, error.message)
    return result
  }
}
