/**
 * What this browser can run models on.
 */

import type { BindingBackendInfo } from '../binding.js'
import { BUILDS } from './engine.js'
import { type Build, chooseBuild } from './features.js'

const KERNELS: Record<Build, string> = {
  simd: 'WebAssembly with SIMD',
  relaxed: 'WebAssembly with relaxed SIMD',
  threads: 'WebAssembly with relaxed SIMD and threads',
}

/** Quick: nothing is fetched. */
export async function backendInfos(): Promise<BindingBackendInfo[]> {
  return [await webgpuInfo(), cpuInfo()]
}

/** The names to try, best first for 'auto', each once. */
export async function orderOf(names: string[]): Promise<string[]> {
  const { available } = await webgpuInfo()
  const order = names.flatMap((name) => {
    if (name === 'auto') return available ? ['webgpu', 'cpu'] : ['cpu']
    return [name]
  })
  return [...new Set(order)]
}

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
    info?: { vendor?: string; architecture?: string; description?: string; device?: string }
  } | null>
}

async function webgpuInfo(): Promise<BindingBackendInfo> {
  const name = 'webgpu'
  const refused = (description: string) => ({ name, available: false, description, devices: [] })
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
    const words = [vendor, architecture, device, description].filter(Boolean)
    const device_ = words.length > 0 ? words.join(' ') : 'an adapter that gives no name'
    return { name, available: true, description: 'WebGPU', devices: [device_] }
  } catch (error) {
    return refused(error instanceof Error ? error.message : String(error))
  }
}
