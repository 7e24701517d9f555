// Hands calls to the worker, and keeps the progress that it reports.

import { browserCache } from '/modules/browser/sources/index.js'

const worker = new Worker('/worker.js', { type: 'module' })
const waiting = new Map()
let last = 0

window.progress = []
window.log = []
window.cache = browserCache()
window.call = (name, args, transfer = []) =>
  new Promise((resolve) => {
    last += 1
    waiting.set(last, resolve)
    worker.postMessage({ id: last, name, args }, transfer)
  })
worker.onmessage = ({ data }) => {
  if (data.ready) window.isReady = true
  else if (data.progress) window.progress.push(data.progress)
  else if (data.log) window.log.push(data.log)
  else {
    waiting.get(data.id)(data.result)
    waiting.delete(data.id)
  }
}
