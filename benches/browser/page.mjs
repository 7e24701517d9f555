/**
 * Measurements, each in a page of its own. `cpuSeconds` is what the browser says that this page's
 * processes have used, `residentBytes` what the system says that they hold; the clock is the same
 * for all engines.
 */

/**
 * @param name of the engine, a file beside this one
 * @param job  { threads, promptLetters, decodeTokens }
 */
window.measure = async (name, job) => {
  const { open } = await import(`/browser/${name}.mjs`)
  const model = await (await fetch('/model.gguf')).blob()
  const contextLength = job.promptLetters + job.decodeTokens + 16
  const engine = await open(model, { threads: job.threads, contextLength })
  // Reads every weight once, and gives a compiler that works in the background its time.
  await answer(text(1, 16), 8)
  const prompt = await timed(() => answer(text(2, job.promptLetters), 1))
  const decode = await timed(() => answer(text(3, 1), job.decodeTokens))
  await engine.close()
  return {
    promptTokens: prompt.result,
    promptRate: prompt.result / prompt.seconds,
    promptRatePerCpu: prompt.result / prompt.cpuSeconds,
    decodeRate: job.decodeTokens / decode.seconds,
    decodeRatePerCpu: job.decodeTokens / decode.cpuSeconds,
  }

  /** Tokens of the prompt. */
  async function answer(prompt, nTokens) {
    const { promptTokens, made } = await engine.generate(prompt, nTokens)
    if (made !== nTokens) throw new Error(`${name} made ${made} tokens, expected ${nTokens}`)
    return promptTokens
  }
}

/**
 * Loads the model, takes one token of it and disposes of it, `nLoads` times, in a page of its own.
 *
 * @returns bytes that the page's processes have resident, by how many loads there were before
 */
window.measureLoads = async (name, { threads, nLoads }) => {
  const { open } = await import(`/browser/${name}.mjs`)
  const model = await (await fetch('/model.gguf')).blob()
  const residentBytes = { 0: await window.residentBytes() }
  for (let loads = 1; loads <= nLoads; loads++) {
    const engine = await open(model, { threads, contextLength: 64 })
    await engine.generate(text(loads, 4), 1)
    await engine.close()
    if (loads === 1 || loads * 2 === nLoads || loads === nLoads)
      residentBytes[loads] = await window.residentBytes()
  }
  return residentBytes
}

/** The same letters for every engine; two texts differ from their first letter on. */
function text(seed, length) {
  const letter = (_, i) => String.fromCharCode(97 + ((seed * 5 + i * 7 + ((i / 26) | 0)) % 26))
  return Array.from({ length }, letter).join('')
}

async function timed(work) {
  const cpuBefore = await window.cpuSeconds()
  const began = performance.now()
  const result = await work()
  const seconds = (performance.now() - began) / 1000
  return { result, seconds, cpuSeconds: (await window.cpuSeconds()) - cpuBefore }
}
