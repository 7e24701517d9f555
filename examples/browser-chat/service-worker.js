/**
 * Keeps the page, so that it opens without a network. Models are kept by Realm itself, in the
 * origin's private file system.
 *
 * The build writes two lines above: FILES, the names of the page's files, and VERSION, a hash of
 * what is in them.
 */

/* global FILES, VERSION */

const NAME = `page-${VERSION}`

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
      .then((names) =>
        Promise.all(names.filter((name) => name !== NAME).map((name) => caches.delete(name))),
      )
      .then(() => self.clients.claim()),
  )
})

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url)
  const isOurs = url.origin === location.origin && event.request.method === 'GET'
  if (!isOurs || event.request.headers.has('range')) return
  const cached = caches.match(event.request.mode === 'navigate' ? './' : event.request, {
    ignoreSearch: true,
  })
  event.respondWith(cached.then((response) => response ?? fetch(event.request)))
})
