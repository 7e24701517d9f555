/**
 * The service worker of the example shares its origin with others, and leaves them alone.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import vm from 'node:vm'

const source = readFileSync('examples/browser-chat/service-worker.js', 'utf8')

/** Runs a version of the worker over caches that it may share with others. */
function startWorker(stores, version, scope = 'https://host/chat/') {
  const listeners = {}
  const cacheOf = (entries) => ({
    addAll: async (urls) => {
      for (const url of urls) entries.set(url, `kept ${url}`)
    },
    match: async (request) => entries.get(request.url ?? request),
    put: async (request, response) => entries.set(request.url, response),
  })
  const caches = {
    open: async (name) => {
      if (!stores.has(name)) stores.set(name, new Map())
      return cacheOf(stores.get(name))
    },
    keys: async () => [...stores.keys()],
    delete: async (name) => stores.delete(name),
    match: async (request) => {
      for (const entries of stores.values())
        if (entries.has(request.url ?? request)) return entries.get(request.url ?? request)
    },
  }
  const self = {
    addEventListener: (name, listener) => {
      listeners[name] = listener
    },
    registration: { scope },
    skipWaiting: async () => {},
    clients: { claim: async () => {} },
  }
  const fetch = async (request) => ({ ok: true, url: request.url, clone: () => 'a copy' })
  const location = new URL(scope)
  vm.runInNewContext(`const VERSION = '${version}', FILES = ['./', 'main.js']\n${source}`, {
    self,
    caches,
    fetch,
    location,
    URL,
    Request,
  })
  const dispatch = async (name, event = {}) => {
    let waited
    listeners[name]({
      ...event,
      waitUntil: (promise) => {
        waited = promise
      },
      respondWith: (promise) => {
        waited = promise
      },
    })
    return waited
  }
  return { dispatch }
}

describe("the example's service worker", () => {
  it('drops the caches of its own older versions, and no others', async () => {
    const stores = new Map([
      ['page-1', new Map()],
      ['another application', new Map()],
    ])
    for (const version of ['old', 'new']) {
      const { dispatch } = startWorker(stores, version)
      await dispatch('install')
      await dispatch('activate')
    }
    const elsewhere = startWorker(stores, 'new', 'https://host/copy/')
    await elsewhere.dispatch('install')
    await elsewhere.dispatch('activate')
    const names = [...stores.keys()]
    assert.deepEqual(names.slice(0, 2), ['page-1', 'another application'])
    assert.equal(names.length, 4)
    assert.ok(names.slice(2).every((name) => name.endsWith(' new')))
  })

  it('answers from its own cache alone', async () => {
    const wanted = 'https://host/chat/data.json'
    const stores = new Map([['another application', new Map([[wanted, 'of another']])]])
    const { dispatch } = startWorker(stores, 'new')
    await dispatch('install')
    const request = { url: wanted, method: 'GET', mode: 'cors', headers: new Headers() }
    const { url } = await dispatch('fetch', { request })
    assert.equal(url, wanted)
    const page = { ...request, mode: 'navigate' }
    assert.equal(await dispatch('fetch', { request: page }), 'kept ./')
  })
})
