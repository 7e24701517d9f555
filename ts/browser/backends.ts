/**
 * What this browser can run models on.
 */

import type { BindingBackendInfo } from '../binding.js'
import { BUILDS } from './engine.js'
import { type Build, chooseBuild } from './features.js'
import type { BackendWish } from './protocol.js'

const KERNELS: Record<Build, string> = {
  simd: 'WebAssembly with SIMD',
  relaxed: 'WebAssembly with relaxed SIMD',
  threads: 'WebAssembly with relaxed SIMD and threads',
}

/** Quick: nothing is fetched. */
export async function backendInfos(): Promise<BindingBackendInfo[]> {
  return [(await findWebgpu()).info, cpuInfo()]
}

/**
 * The backends to try, each once. A software adapter computes slower than the engine does by
 * itself: it is used when WebGPU is asked for by name.
 */
export async function orderOf(names: string[]): Promise<BackendWish[]> {
  const { info, isSoftware } = await findWebgpu()
  const wishes = names.flatMap((name): BackendWish[] => {
    if (name === 'cpu') return [CPU]
    const refusal = info.available ? '' : info.description
    if (name !== 'auto') return [{ name, refusal: name === 'webgpu' ? refusal : '' }]
    return [{ name: 'webgpu', refusal: isSoftware ? SOFTWARE : refusal }, CPU]
  })
  return wishes.filter(({ name }, i) => wishes.findIndex((other) => other.name === name) === i)
}

const CPU: BackendWish = { name: 'cpu', refusal: '' }
const SOFTWARE = 'the only adapter computes in software, which is used when asked for by name'

function cpuInfo(): BindingBackendInfo {
  const choice = chooseBuild(BUILDS)
  const description =
    choice === null
      ? 'this browser has no WebAssembly with SIMD'
      : [KERNELS[choice.build], choice.reason].filter((part) => part !== '').join('; ')
  return { name: 'cpu', available: choice !== null, description, devices: [] }
}

/** The parts of WebGPU that are used here. */
interface Gpu {
  requestAdapter(): Promise<{
    info?: {
      vendor?: string
      architecture?: string
      description?: string
      device?: string
      isFallbackAdapter?: boolean
    }
  } | null>
}

/** What there is of WebGPU, and whether it only looks like a graphics processor. */
async function findWebgpu(): Promise<{ info: BindingBackendInfo; isSoftware: boolean }> {
  const name = 'webgpu'
  const refused = (description: string) => ({
    info: { name, available: false, description, devices: [] },
    isSoftware: false,
  })
  const { gpu } = navigator as { gpu?: Gpu }
  if (gpu === undefined) {
    return refused(
      globalThis.isSecureContext
        ? 'this browser has no WebGPU'
        : 'WebGPU needs a page that was served over https or from localhost',
    )
  }
  try {
    const adapter = await gpu.requestAdapter()
    if (adapter === null) return refused('the browser offers no graphics adapter')
    const { vendor, architecture, device, description } = adapter.info ?? {}
    const isSoftware = adapter.info?.isFallbackAdapter === true
    const words = [vendor, architecture, device, description].filter(Boolean)
    const devices = [words.length > 0 ? words.join(' ') : 'an adapter that gives no name']
    const what = isSoftware ? `WebGPU in software: ${SOFTWARE}` : 'WebGPU'
    return { info: { name, available: true, description: what, devices }, isSoftware }
  } catch (error) {
    return refused(error instanceof Error ? error.message : String(error))
  }
}
