/** flare, in a worker of its own, since it has none. */

export async function open(model, { threads }) {
  if (threads !== 1) throw new Error(`flare: 1 thread, expected ${threads}`)
  const worker = new Worker('/browser/flare-worker.mjs', { type: 'module' })
  const call = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) =>
        data?.error === undefined ? resolve(data) : reject(new Error(`flare: ${data.error}`))
      worker.onerror = ({ message }) => reject(new Error(`flare: ${message}`))
      worker.postMessage(message)
    })
  await call({ model })
  return {
    generate: (text, maxTokens) => call({ text, maxTokens }),
    close: () => worker.terminate(),
  }
}
