/**
 * What downloads are made of, by itself: bodies, files, journals.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it, mock } from 'node:test'
import { BLOCKS, faultOfFile } from '../dist/download/gguf-file.js'
import { storedBytes } from '../dist/download/journal.js'
import { readBody } from '../dist/download/requests.js'
import { randomGguf } from './support/gguf.mjs'
import { bundledModel } from './support/models.mjs'

describe('a body that falls silent', () => {
  it('is a failure, whatever clocks say', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    try {
      const body = new ReadableStream({ start: (stream) => stream.enqueue(new Uint8Array(5)) })
      const parts = readBody(new Response(body), undefined, 30_000)
      assert.equal((await parts.next()).value.byteLength, 5)
      const second = parts.next()
      const failed = assert.rejects(second, /fell silent/)
      // The timers fire without any time going by.
      for (let i = 0; i < 3; i += 1) {
        await new Promise((resolve) => setImmediate(resolve))
        mock.timers.tick(30_000)
      }
      await failed
    } finally {
      mock.timers.reset()
    }
  })
})

describe('a GGUF file', () => {
  const read = (bytes) => async (at, length) => bytes.subarray(at, at + length)
  const fault = (bytes) => faultOfFile(bytes.length, read(bytes))

  it('is whole as it is, and not without its last byte', async () => {
    for (const bytes of [readFileSync(bundledModel), randomGguf(5000)]) {
      assert.equal(await fault(bytes), undefined)
      assert.match(await fault(bytes.subarray(0, -1)), /ends after \d+ bytes, its header tells of/)
      for (const length of [4, 20, 100])
        assert.match(await fault(bytes.subarray(0, length)), /within its header/)
    }
    assert.match(await fault(Buffer.from('<html>')), /begins with "<htm"/)
    assert.match(await fault(Buffer.alloc(0)), /begins with ""/)
  })

  it('may be longer than its tensors, and of a version that the engine is to refuse', async () => {
    const bytes = randomGguf(5000)
    assert.equal(await fault(Buffer.concat([bytes, Buffer.alloc(100)])), undefined)
    bytes.writeUInt32LE(99, 4)
    assert.equal(await fault(bytes.subarray(0, 100)), undefined)
  })

  it('that lies about its counts is refused without reading for ever', async () => {
    const bytes = randomGguf(5000)
    for (const at of [8, 16]) {
      const lying = Buffer.from(bytes)
      lying.writeBigUInt64LE(2n ** 63n, at)
      assert.match(await fault(lying), /within its header/)
    }
    // Arrays in arrays in arrays.
    const nested = Buffer.alloc(100_000)
    randomGguf(5000).copy(nested, 0, 0, 24)
    nested.writeBigUInt64LE(0n, 24)
    nested.writeUInt32LE(9, 32)
    for (let at = 36; at + 12 <= nested.length; at += 12) {
      nested.writeUInt32LE(9, at)
      nested.writeBigUInt64LE(1n, at + 4)
    }
    assert.equal(await fault(nested), undefined)
  })

  it('has blocks of the sizes that the engine knows', () => {
    const source = readFileSync('crates/gguf/src/tensor_type.rs', 'utf8')
    const ids = new Map([...source.matchAll(/^ {4}(\w+) = (\d+),/gm)].map(([, n, id]) => [n, id]))
    const rows = [...source.matchAll(/\(TensorType::(\w+), "\w+", (\d+), (\d+)\)/g)]
    assert.ok(rows.length > 30)
    const known = rows.map(([, name, values, bytes]) => [
      Number(ids.get(name)),
      [Number(values), Number(bytes)],
    ])
    assert.deepEqual(
      Object.entries(BLOCKS).map(([id, row]) => [Number(id), row]),
      known,
    )
  })
})

describe('the bytes that a journal tells of', () => {
  const journal = { pieceBytes: 100, isComplete: false, laterPieces: [], leadingPieces: 0 }
  const version = { size: 250, etag: null, lastModified: null }

  it('are those of its pieces, of which the last may be shorter', () => {
    const bytes = (known) => storedBytes({ ...journal, version, ...known })
    assert.equal(bytes({}), 0)
    assert.equal(bytes({ leadingPieces: 2 }), 200)
    assert.equal(bytes({ laterPieces: [2] }), 50)
    assert.equal(bytes({ leadingPieces: 1, laterPieces: [2] }), 150)
    assert.equal(bytes({ leadingPieces: 3 }), 250)
    assert.equal(bytes({ isComplete: true }), 250)
    assert.equal(bytes({ version: { ...version, size: 300 }, leadingPieces: 3 }), 300)
    assert.equal(bytes({ version: null, leadingPieces: 3 }), 300)
  })
})
