/**
 * Which of the builds this browser can run.
 */

/** Of those for the CPU each needs what the ones before it need, and something more. */
export type Build = CpuBuild | 'webgpu'
export type CpuBuild = 'simd' | 'relaxed' | 'threads'

/** `() -> v128`: a splat and an any-true; and a relaxed swizzle. */
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
]
const RELAXED_SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15,
  65, 2, 253, 15, 253, 128, 2, 11,
]

const isValid = (bytes: number[]) => WebAssembly.validate(new Uint8Array(bytes))

/** The best build for the CPU, and why no better one; null where there is none. */
export function chooseBuild(): { build: CpuBuild; reason: string } | null {
  if (typeof WebAssembly === 'undefined' || !isValid(SIMD)) return null
  const refusals: string[] = []
  const builds: [CpuBuild, string | undefined][] = [
    ['threads', whyNoThreads()],
    ['relaxed', isValid(RELAXED_SIMD) ? undefined : 'the browser lacks relaxed SIMD'],
    ['simd', undefined],
  ]
  for (const [build, refusal] of builds) {
    if (refusal === undefined) return { build, reason: refusals.join('; ') }
    refusals.push(refusal)
  }
  return null
}

function whyNoThreads(): string | undefined {
  if (globalThis.crossOriginIsolated !== true)
    return 'one thread, since the page is not cross-origin isolated (it needs the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)'
  if (typeof SharedArrayBuffer === 'undefined') return 'one thread: no shared memory'
  return isValid(RELAXED_SIMD) ? undefined : 'one thread: the browser lacks relaxed SIMD'
}
