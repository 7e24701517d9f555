/**
 * Starts the worker, wherever the package came from.
 */

/** A new worker of this package. Bundlers find the worker by the expression below. */
export function startWorker(): Worker {
  if (isSameOrigin(import.meta.url))
    return new Worker(new URL('./worker.mjs', import.meta.url), { type: 'module', name: 'realm' })
  // A worker must be of the page's origin; what it imports need not be.
  const here = import.meta.url
  const bootstrap = `import ${JSON.stringify(new URL('worker.mjs', here).href)}`
  const url = URL.createObjectURL(new Blob([bootstrap], { type: 'text/javascript' }))
  const worker = new Worker(url, { type: 'module', name: 'realm' })
  // It has been fetched once anything arrives from it, or never will be.
  const done = () => URL.revokeObjectURL(url)
  worker.addEventListener('message', done, { once: true })
  worker.addEventListener('error', done, { once: true })
  return worker
}

function isSameOrigin(url: string): boolean {
  return new URL(url).origin === globalThis.location.origin
}
