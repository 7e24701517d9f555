/**
 * Where the engine's builds lie, WebAssembly and JavaScript. Bundlers find the files by these
 * expressions, and leave them as they are.
 */

import { RealmError } from '../errors.js'
import type { EngineScript } from './engine.js'
import type { Build } from './features.js'

const urls: Record<Build, () => URL> = {
  simd: () => new URL('./realm-simd.wasm', import.meta.url),
  relaxed: () => new URL('./realm-relaxed.wasm', import.meta.url),
  webgpu: () => new URL('./realm-webgpu.wasm', import.meta.url),
  threads: () => new URL('./realm-threads.wasm', import.meta.url),
}

const scripts: Record<Build, () => URL> = {
  simd: () => new URL('./realm-simd.mjs', import.meta.url),
  relaxed: () => new URL('./realm-relaxed.mjs', import.meta.url),
  webgpu: () => new URL('./realm-webgpu.mjs', import.meta.url),
  threads: () => new URL('./realm-threads.mjs', import.meta.url),
}

/** What wasm-bindgen wrote for a build. */
export async function importScript(build: Build): Promise<{ createEngine(): EngineScript }> {
  const url = scripts[build]()
  try {
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ url.href)
  } catch (error) {
    throw unavailable(url, error)
  }
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
    throw unavailable(url, error)
  }
}

function unavailable(url: URL, cause: unknown): RealmError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  const message = `the engine at ${url} does not load: ${reason}`
  return new RealmError('BACKEND_UNAVAILABLE', message, { cause })
}
