// Checks sources as a page does, and opens them as the engine's worker does.

import { resolveSource } from '/modules/browser/page-source.js'
import { browserCache, openSource } from '/modules/browser/sources/index.js'

const opened = new Map()
const controllers = new Map()
let last = 0

const sha256 = async (bytes) =>
  [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')

/** What is in a source, read in uneven pieces. */
function contents(source) {
  const bytes = new Uint8Array(source.size)
  for (let at = 0; at < source.size; at += 77_777)
    bytes.set(source.read(at, Math.min(77_777, source.size - at)), at)
  return bytes
}

const calls = {
  /** Opens a source; the sizes and checksums of its files, and a number to close it by. */
  async open(given, { signal: name, policy, ...settings } = {}) {
    const controller = new AbortController()
    const { signal } = controller
    if (name) controllers.set(name, controller)
    const { source } = await resolveSource(given, { ...settings, signal })
    const files = await openSource(source, {
      policy,
      signal,
      onProgress: (progress) => postMessage({ progress }),
      logger: (log) => postMessage({ log }),
    })
    last += 1
    opened.set(last, files)
    return {
      id: last,
      sizes: files.map(({ size }) => size),
      sha256: await Promise.all(files.map((file) => sha256(contents(file)))),
    }
  },
  close: (id) => {
    for (const file of opened.get(id)) file.close()
  },
  abort: (signal) => controllers.get(signal).abort(),
  read: (id, offset, length) => [...opened.get(id)[0].read(offset, length)],
  openBytes: (bytes, form) => {
    const array = Uint8Array.from(bytes)
    const forms = {
      array: () => array,
      buffer: () => array.buffer,
      arrays: () => [array.subarray(0, 10), array.subarray(10)],
      blob: () => new Blob([array]),
      'files out of order': () => [
        new File([array.subarray(10)], 'm-00002-of-00002.gguf'),
        new File([array.subarray(0, 10)], 'm-00001-of-00002.gguf'),
      ],
      handle: () => ({ getFile: async () => new File([array], 'm.gguf') }),
      stream: () => new Blob([array]).stream(),
      'failing stream': () =>
        new ReadableStream({
          pull: (controller) => controller.error(new Error('the disk is gone')),
        }),
      'stream of text': () =>
        new ReadableStream({
          start(controller) {
            controller.enqueue('text')
            controller.close()
          },
        }),
      'silent stream': () => new ReadableStream(),
      nothing: () => [],
      number: () => 7,
    }
    return calls.open(forms[form](), { signal: form })
  },
  withoutFileSystem: () => {
    navigator.storage.getDirectory = async () => {
      throw new DOMException('not here', 'SecurityError')
    }
  },
  list: () => browserCache().list(),
}

self.onmessage = async ({ data: { id, name, args } }) => {
  let result
  try {
    result = await calls[name](...args)
  } catch ({ name, code, message }) {
    result = { error: { name, code, message } }
  }
  postMessage({ id, result })
}
postMessage({ ready: true })
