// Runs the cases of the kernels' tests on the page's graphics device.

import init, { Kernels } from '/realm.js'

/**
 * What is off in products of matrices and in all cases, a line each. `control` is what is said of
 * the first case with all its values turned round.
 */
window.checkKernels = async (arithmetic) => {
  await init({ module_or_path: '/realm_bg.wasm' })
  const kernels = await Kernels.open(arithmetic)
  const [nProducts, ...faults] = await kernels.products()
  // All at once: some browsers take their time to say that something was computed.
  const cases = Array.from({ length: kernels.count }, (_, index) => kernels.fault(index))
  for (const fault of await Promise.all(cases)) if (fault !== undefined) faults.push(fault)
  return {
    nProducts: Number(nProducts),
    nCases: kernels.count,
    faults,
    control: await kernels.control(0),
  }
}
