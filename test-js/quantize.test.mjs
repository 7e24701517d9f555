/**
 * Writing quantised files, as a function and as a command.
 */

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantize, Realm } from '@realm-ai/realm'
import { bundledModel, GREEDY, referenceFile, root } from './support/models.mjs'

const windows = process.platform === 'win32'
const PROMPT = 'Once upon a time there was a little'

let folder
let input
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'realm-quantize-'))
  input = referenceFile('realm-tiny-stories-f16.gguf')
})
after(() => rmSync(folder, { recursive: true }))

const file = (name) => join(folder, name)
const coded =
  (code, ...parts) =>
  (error) => {
    assert.equal(error.code, code, error.message)
    for (const part of parts) assert.ok(error.message.includes(part), error.message)
    return true
  }

/** The answer of a file, greedily. */
async function answer(path) {
  const realm = await Realm.create()
  try {
    const model = await realm.load(path)
    return (await model.generate(PROMPT, { ...GREEDY, maxTokens: 24 })).text
  } finally {
    await realm.dispose()
  }
}

describe('quantize', () => {
  it('writes a smaller file that answers like the one it was made from', async () => {
    const fractions = []
    const report = await quantize(input, file('q8.gguf'), 'Q8_0', {
      onProgress: (fraction) => fractions.push(fraction),
    })
    assert.equal(report.outputBytes, statSync(file('q8.gguf')).size)
    assert.ok(report.outputBytes < 0.6 * report.inputBytes)
    assert.ok(report.tensors.some(({ from, to }) => from === 'F16' && to === 'Q8_0'))
    assert.equal(fractions.at(-1), 1)
    assert.equal(await answer(file('q8.gguf')), await answer(input))
  })

  it('writes every tensor in its type again only where it is asked to', async () => {
    const again = quantize(bundledModel, file('again.gguf'), 'Q4_0')
    await assert.rejects(again, coded('INVALID_ARGUMENT', 'Q8_0'))
    await quantize(bundledModel, file('again.gguf'), 'Q4_0', { allowRequantize: true })
    assert.ok(statSync(file('again.gguf')).size < statSync(bundledModel).size)
    assert.notEqual(await answer(file('again.gguf')), '')
  })

  it('refuses what cannot be done, by name, and leaves nothing behind', async () => {
    const out = file('refused.gguf')
    await assert.rejects(quantize(input, out, 'Q4_X'), coded('INVALID_ARGUMENT', 'Q4_X', 'Q4_K_M'))
    await assert.rejects(quantize(input, out, 4), coded('INVALID_ARGUMENT', 'mix'))
    await assert.rejects(quantize(input, out, 'IQ1_S'), coded('INVALID_ARGUMENT', 'importance'))
    await assert.rejects(quantize(file('none'), out, 'Q8_0'), coded('MODEL_NOT_FOUND'))
    await assert.rejects(quantize(input, join(out, 'x'), 'Q8_0'), coded('WRITE_FAILED'))
    await assert.rejects(quantize(input, input, 'Q8_0'), coded('INVALID_ARGUMENT', 'same file'))
    writeFileSync(file('junk.gguf'), 'nothing of the kind')
    await assert.rejects(quantize(file('junk.gguf'), out, 'Q8_0'), coded('MODEL_INVALID'))
    const signal = AbortSignal.abort()
    await assert.rejects(quantize(input, out, 'Q2_K', { signal }), coded('ABORTED'))
    assert.ok(!existsSync(out))
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('refused')),
      [],
    )
  })

  it('leaves alone what is no regular file, and writes behind links', {
    skip: windows,
  }, async () => {
    execFileSync('mkfifo', [file('pipe')])
    await assert.rejects(
      quantize(input, file('pipe'), 'Q8_0'),
      coded('WRITE_FAILED', 'not a regular file'),
    )
    assert.ok(lstatSync(file('pipe')).isFIFO())
    symlinkSync('behind.gguf', file('link.gguf'))
    const { outputBytes } = await quantize(input, file('link.gguf'), 'Q8_0')
    assert.ok(lstatSync(file('link.gguf')).isSymbolicLink())
    assert.equal(lstatSync(file('behind.gguf')).size, outputBytes)
  })
})

describe('realm quantize', () => {
  const realm = (...args) =>
    spawnSync(process.execPath, [join(root, 'dist', 'bin.js'), 'quantize', ...args], {
      encoding: 'utf8',
    })

  it('does the same from the command line', async () => {
    const { status, stdout, stderr } = realm(input, file('cli.gguf'), 'q4_k_m', '--threads', '1')
    assert.equal(status, 0, stderr)
    assert.match(stdout, /tensors quantised, [\d.]+ MB -> [\d.]+ MB/)
    assert.notEqual(await answer(file('cli.gguf')), '')
  })

  it('says how it is used', () => {
    const { status, stderr } = realm(input)
    assert.equal(status, 2)
    assert.ok(stderr.includes('realm quantize INPUT OUTPUT MIX'))
  })

  const left = (output) => readdirSync(folder).filter((name) => name.startsWith(output))

  /** Ends the command with a signal while it writes; how it ended. */
  async function ended(output, signal) {
    const args = ['quantize', input, file(output), 'Q2_K', '--threads', '1']
    const child = spawn(process.execPath, [join(root, 'dist', 'bin.js'), ...args])
    const exit = once(child, 'exit')
    while (!left(output).some((name) => name.endsWith('.partial'))) {
      assert.equal(child.exitCode, null, 'it ended too soon')
      await sleep(2)
    }
    child.kill(signal)
    const [status, endedBy] = await exit
    return endedBy ?? status
  }

  it('leaves nothing behind when it is interrupted', { skip: windows }, async () => {
    assert.equal(await ended('int.gguf', 'SIGINT'), 130)
    assert.equal(await ended('int.gguf', 'SIGTERM'), 143)
    assert.deepEqual(left('int.gguf'), [])
  })

  it('leaves what a killed one could not remove to the next one', async () => {
    await ended('killed.gguf', 'SIGKILL')
    assert.equal(left('killed.gguf').length, 1)
    await quantize(input, file('killed.gguf'), 'Q8_0')
    assert.deepEqual(left('killed.gguf'), ['killed.gguf'])
  })
})
