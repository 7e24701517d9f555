/**
 * A web server for files that can be told to misbehave, each file in its own way.
 */

import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * How a file is served.
 *
 * @typedef {object} ServedFile
 * @property {Uint8Array} bytes
 * @property {string} [etag]
 * @property {boolean} [ranges]   false: whole files only. Default true.
 * @property {boolean} [ifRange]  false: whole files for every If-Range. Default true.
 * @property {boolean} [head]     false: HEAD is refused. Default true.
 * @property {boolean} [expose]   false: pages of other origins see no ETag and no Content-Range.
 * @property {number} [dropAfter] bytes of an answer after which the connection is cut
 * @property {number} [drops]     how many answers are cut. Default all.
 * @property {number} [delayMs]   wait before every 16 KiB. Default 0.
 * @property {Promise<void>} [hold] what the second half of the file waits for
 * @property {number} [status]    what is answered instead, `failures` times
 * @property {number} [failures]  Default: always.
 * @property {boolean} [mute]     never answers
 * @property {boolean} [silent]   sends half an answer, then nothing
 * @property {number} [endAfter]  bytes after which an answer ends as if it were whole
 * @property {boolean} [chunked]  whole answers without Content-Length
 * @property {Record<string, string>} [headers]
 * @property {string} [type]
 */

/**
 * Starts a server; `files` maps paths to ServedFile, `requests` tells what was asked.
 *
 * @param find finds what is not in `files`
 */
export async function serveFiles(find = () => undefined) {
  const files = new Map()
  const requests = []
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://host')
    const file = files.get(pathname) ?? find(pathname)
    answer(file, requests, request, response).catch(() => response.destroy())
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    files,
    requests,
    /** Bytes of a file that were sent since the requests were last cleared. */
    sentBytes: (path) =>
      requests.filter((one) => one.path === path).reduce((sum, { sent }) => sum + sent, 0),
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
}

/** A `find` for the files of a folder; a path that ends with a slash is that folder's index. */
export function inFolder(folder, headers = {}) {
  return (path) => {
    const file = join(folder, path.endsWith('/') ? `${path}index.html` : path)
    if (!existsSync(file)) return undefined
    return { bytes: readFileSync(file), type: TYPES[extname(file)], headers }
  }
}

async function answer(file, requests, request, response) {
  const { pathname: path } = new URL(request.url, 'http://host')
  const entry = { path, method: request.method, range: request.headers.range, sent: 0 }
  requests.push({ ...entry, headers: request.headers })
  const record = requests.at(-1)
  response.setHeader('access-control-allow-origin', '*')
  if (request.method === 'OPTIONS')
    return response.writeHead(204, { 'access-control-allow-headers': 'range, authorization' }).end()
  if (file?.mute) return
  if (file === undefined) return response.writeHead(404, 'Not Found').end()
  if (file.status !== undefined && (file.failures ?? 1) > 0) {
    if (file.failures !== undefined) file.failures -= 1
    return response.writeHead(file.status, file.headers).end()
  }
  if (request.method === 'HEAD' && file.head === false) return response.writeHead(405).end()
  const { start, end, status } = rangeOf(file, request.headers)
  if (start >= end && status === 206)
    return response.writeHead(416, { 'content-range': `bytes */${file.bytes.length}` }).end()
  response.writeHead(status, headersOf(file, start, end, status))
  if (request.method === 'HEAD') return response.end()
  await send(file, file.bytes.subarray(start, end), response, record)
}

function rangeOf(file, { range, 'if-range': version }) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? []
  const isOther = version !== undefined && (version !== file.etag || file.ifRange === false)
  if (first === undefined || file.ranges === false || isOther)
    return { start: 0, end: file.bytes.length, status: 200 }
  const end = last === '' ? file.bytes.length : Math.min(Number(last) + 1, file.bytes.length)
  return { start: Number(first), end, status: 206 }
}

function headersOf(file, start, end, status) {
  return {
    'content-type': file.type ?? 'application/octet-stream',
    ...(file.etag && { etag: file.etag }),
    ...(!(file.chunked && status === 200) && { 'content-length': end - start }),
    ...(file.ranges !== false && { 'accept-ranges': 'bytes' }),
    ...(status === 206 && { 'content-range': `bytes ${start}-${end - 1}/${file.bytes.length}` }),
    ...(file.expose !== false && {
      'access-control-expose-headers': 'etag, content-range, x-linked-etag, retry-after',
    }),
    ...file.headers,
  }
}

/** How long what was sent may take to reach a page. */
const ARRIVAL_MS = 250

async function send(file, bytes, response, record) {
  const isCut = file.dropAfter !== undefined && (file.drops ?? 1) > 0
  if (isCut && file.drops !== undefined) file.drops -= 1
  const whole = file.endAfter ?? (file.silent ? bytes.length / 2 : bytes.length)
  const limit = isCut ? file.dropAfter : whole
  const start = bytes.byteOffset - file.bytes.byteOffset
  for (let at = 0; at < Math.min(limit, bytes.length); at += 16384) {
    if (file.delayMs) await sleep(file.delayMs)
    if (start + at >= file.bytes.length / 2) await file.hold
    if (response.destroyed) return
    const part = bytes.subarray(at, Math.min(at + 16384, limit))
    record.sent += part.length
    await new Promise((resolve) => response.write(part, resolve))
  }
  if (isCut && limit < bytes.length) {
    // What was sent is to arrive: a browser drops what it has not handed to the page when the
    // connection breaks, and a busy machine takes a while.
    await sleep(ARRIVAL_MS)
    response.destroy()
  } else if (!file.silent) response.end()
}
