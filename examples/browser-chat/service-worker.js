/**
 * Keeps the page, so that it opens without a network: its files from the start, and of the engine
 * the build that this browser runs, once that was fetched. Models are kept by Realm itself, in the
 * origin's private file system.
 *
 * The build writes two lines above: FILES, the names of the page's files, and VERSION, a hash of
 * what is in them.
 */

/* global FILES, VERSION */

// Other applications of this origin have caches too, and maybe another copy of this one.
const OURS = `realm-browser-chat ${self.registration.scope} `
const NAME = OURS + VERSION

self.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(NAME)
      .then((cache) => cache.addAll(FILES))
      .then(() => self.skipWaiting()),
  )
})

self.addEventListener('activate', (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => names.filter((name) => name.startsWith(OURS) && name !== NAME))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  )
})

// What the page fetched before this worker was there: addresses of the engine.
self.addEventListener('message', (event) => {
  event.waitUntil(Promise.all(event.data.map((url) => answer(new Request(url)))))
})

self.addEventListener('fetch', (event) => {
  const { request } = event
  const url = new URL(request.url)
  const isOurs = url.origin === location.origin && request.method === 'GET'
  if (!isOurs || request.headers.has('range')) return
  event.respondWith(answer(request))
})

/** From the cache, else from the network; an engine is kept. */
async function answer(request) {
  const wanted = request.mode === 'navigate' ? './' : request
  const cache = await caches.open(NAME)
  const cached = await cache.match(wanted, { ignoreSearch: true })
  if (cached !== undefined) return cached
  const response = await fetch(request)
  if (response.ok && new URL(request.url).pathname.endsWith('.wasm'))
    await cache.put(request, response.clone())
  return response
}
