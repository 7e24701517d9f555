/**
 * What this browser can run models on.
 */

import type { BindingBackendInfo } from '../binding.js'
import { type CpuBuild, chooseBuild } from './features.js'
import type { BackendWish } from './protocol.js'

const KERNELS: Record<CpuBuild, string> = {
  simd: 'WebAssembly with SIMD',
  relaxed: 'WebAssembly with relaxed SIMD',
  threads: 'WebAssembly with relaxed SIMD and threads',
}

/** Quick: nothing is fetched. */
export async function backendInfos(): Promise<BindingBackendInfo[]> {
  return [(await findWebgpu()).info, cpuInfo()]
}

/**
 * The backends to try, each once. A device in software computes slower than the engine does by
 * itself: it is used when it is named.
 */
export async function orderOf(names: string[], device: string): Promise<BackendWish[]> {
  const { info, isSoftware } = await findWebgpu()
  const reason = webgpuRefusal(info, isSoftware, device)
  const refusal = reason === '' ? '' : `backend webgpu is not available: ${reason}`
  const webgpu = { name: 'webgpu', refusal }
  const wishes = names.flatMap((name): BackendWish[] => {
    if (name === 'auto') return [webgpu, CPU]
    return [[webgpu, CPU].find((known) => known.name === name) ?? { name, refusal: '' }]
  })
  return wishes.filter(({ name }, i) => wishes.findIndex((other) => other.name === name) === i)
}

/** What speaks against WebGPU; `wanted` is part of the name of a device, its number, or empty. */
function webgpuRefusal(info: BindingBackendInfo, isSoftware: boolean, wanted: string): string {
  const [device] = info.devices
  if (device === undefined) return info.description
  if (wanted === '') return isSoftware ? SOFTWARE : ''
  const isMeant = wanted === '0' || device.toLowerCase().includes(wanted.toLowerCase())
  return isMeant ? '' : `no device is called "${wanted}"; found: ${device}`
}

const CPU: BackendWish = { name: 'cpu', refusal: '' }
const SOFTWARE = 'the only device computes in software, and runs when `device` names it'

function cpuInfo(): BindingBackendInfo {
  const choice = chooseBuild()
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
    if (adapter === null) return refused('the browser offers no graphics device')
    const found = adapter.info ?? {}
    const isSoftware = found.isFallbackAdapter === true
    const words = [found.vendor, found.architecture, found.device, found.description].filter(
      Boolean,
    )
    const devices = [words.length > 0 ? words.join(' ') : 'a device that gives no name']
    const description = isSoftware ? SOFTWARE : 'WebGPU'
    return { info: { name, available: !isSoftware, description, devices }, isSoftware }
  } catch (error) {
    return refused(error instanceof Error ? error.message : String(error))
  }
}
