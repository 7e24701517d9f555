/**
 * Starts the worker, wherever the package came from.
 */

let bootstrapUrl: string | undefined

/** A new worker of this package. Bundlers find the worker by the expression below. */
export function startWorker(): Worker {
  if (isSameOrigin(import.meta.url))
    return new Worker(new URL('./worker.mjs', import.meta.url), { type: 'module', name: 'realm' })
  // A worker must be of the page's origin; what it imports need not be.
  const here = import.meta.url
  const bootstrap = `import ${JSON.stringify(new URL('worker.mjs', here).href)}`
  // Never revoked: the worker starts its threads from the same address.
  bootstrapUrl ??= URL.createObjectURL(new Blob([bootstrap], { type: 'text/javascript' }))
  return new Worker(bootstrapUrl, { type: 'module', name: 'realm' })
}

function isSameOrigin(url: string): boolean {
  return new URL(url).origin === globalThis.location.origin
}
