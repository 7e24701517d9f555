/**
 * Where the engine's WebAssembly lies. Bundlers find the files by these expressions.
 */

import { RealmError } from '../errors.js'
import type { Build } from './features.js'

const urls: Record<Build, () => URL> = {
  simd: () => new URL('./realm-simd.wasm', import.meta.url),
  relaxed: () => new URL('./realm-relaxed.wasm', import.meta.url),
  threads: () => new URL('./realm-threads.wasm', import.meta.url),
}

/** Fetches and compiles a build, off this thread. */
export async function compileEngine(build: Build): Promise<WebAssembly.Module> {
  const url = urls[build]()
  try {
    const response = await fetch(url)
    if (!response.ok) throw new Error(`the server says ${response.status}`)
    // A server that calls it something else forbids streaming.
    return response.headers.get('content-type')?.startsWith('application/wasm')
      ? await WebAssembly.compileStreaming(response)
      : await WebAssembly.compile(await response.arrayBuffer())
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new RealmError('BACKEND_UNAVAILABLE', `the engine at ${url} does not load: ${reason}`, {
      cause: error,
    })
  }
}
