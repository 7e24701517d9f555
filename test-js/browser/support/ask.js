// Asks the page's graphics adapter for products whose results are known.

const READ = 'read-only-storage'

/**
 * Runs the questions that a file holds. `faults` are what is off, a line each; `control` is what
 * is said of the first with all its answers turned round.
 */
window.askAll = async (url) => {
  const questions = await (await fetch(url)).json()
  const adapter = await navigator.gpu?.requestAdapter()
  if (!adapter) throw new Error('the page has no graphics adapter')
  const requiredFeatures = ['shader-f16'].filter((name) => adapter.features.has(name))
  const device = await adapter.requestDevice({ requiredFeatures })
  const faults = []
  const { answers, ...first } = questions[0]
  const turned = { ...first, answers: answers.map((answer) => -answer) }
  const control = compare(await ask(device, turned), turned)
  for (const question of questions) {
    device.pushErrorScope('validation')
    const found = await ask(device, question).catch(String)
    const refused = await device.popErrorScope()
    const fault =
      refused?.message ?? (found instanceof Float32Array ? compare(found, question) : found)
    if (fault) faults.push(`${question.name}: ${fault}`)
  }
  return { n: questions.length, faults, control, requiredFeatures }
}

async function ask(device, { text, reads, parameters, choices, batch, outValues, grid }) {
  const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage
  const empty = (size, usage) => device.createBuffer({ size, usage })
  const buffer = (words, usage) => {
    const filled = empty(Math.max(16, Math.ceil(words.length / 4) * 16), usage | COPY_DST)
    device.queue.writeBuffer(filled, 0, Uint32Array.from(words))
    return filled
  }
  const outs = outValues.map((n) => empty(4 * n, STORAGE | COPY_SRC))
  const read = (words) => ({ type: READ, buffer: buffer(words, STORAGE) })
  const write = (out) => ({ type: 'storage', buffer: out })
  const operands = [
    ...reads.map(read),
    write(outs[0]),
    { type: 'uniform', buffer: buffer(parameters, UNIFORM) },
    ...choices.map(read),
    ...outs.slice(1).map(write),
  ]
  const groups = [operands, ...(batch ? [[read(batch)]] : [])].map((group) => {
    const visibility = GPUShaderStage.COMPUTE
    const layout = device.createBindGroupLayout({
      entries: group.map(({ type }, binding) => ({ binding, visibility, buffer: { type } })),
    })
    const entries = group.map(({ buffer }, binding) => ({ binding, resource: { buffer } }))
    return { layout, bound: device.createBindGroup({ layout, entries }) }
  })
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({ bindGroupLayouts: groups.map(({ layout }) => layout) }),
    compute: { module: device.createShaderModule({ code: text }), entryPoint: 'main' },
  })

  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  for (const [index, { bound }] of groups.entries()) pass.setBindGroup(index, bound)
  pass.dispatchWorkgroups(...grid)
  pass.end()
  const bytes = outs.reduce((sum, { size }) => sum + size, 0)
  const staging = empty(bytes, MAP_READ | COPY_DST)
  let at = 0
  for (const out of outs) {
    encoder.copyBufferToBuffer(out, 0, staging, at, out.size)
    at += out.size
  }
  device.queue.submit([encoder.finish()])
  await staging.mapAsync(GPUMapMode.READ)
  return new Float32Array(staging.getMappedRange().slice(0))
}

function compare(found, { answers, tolerance }) {
  if (found.length !== answers.length) return `${found.length} of ${answers.length} values`
  const allowed = (tolerance * Math.hypot(...answers)) / Math.sqrt(answers.length)
  // Not a number is never within a tolerance.
  const at = answers.findIndex((answer, i) => !(Math.abs(found[i] - answer) <= allowed))
  if (at !== -1) return `${found[at]} where ${answers[at]} is known, at ${at}`
}
