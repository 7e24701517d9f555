/**
 * Reads the files of the conformance kit.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { withModel } from '../support/models.mjs'

/**
 * The kit in a folder.
 *
 * @param backend the backend to run it on; the default of the machine where it is not given
 * @param how     `withModel` to load models elsewhere than in this process, `device` of the backend
 */
export function openKit(folder, backend, how = {}) {
  const read = (path) => readFileSync(join(folder, path))
  const readJson = (path) => JSON.parse(read(path).toString('utf8'))
  return {
    cases: readJson('index.json').cases,
    backend,
    withModel,
    ...how,
    path: (path) => join(folder, path),
    readJson,
    readBytes: read,
    readText: (path) => read(path).toString('utf8'),
    /** Bytes of a file, gunzipped if its name ends in .gz. */
    readModel: (path) => (path.endsWith('.gz') ? gunzipSync(read(path)) : read(path)),
    readMatrix: (path) => parseNpy(read(path)),
  }
}

/** A matrix of a .npy file, version 1.0, little-endian f32, C order: its rows. */
function parseNpy(bytes) {
  const headerBytes = bytes.readUInt16LE(8)
  const header = bytes.subarray(10, 10 + headerBytes).toString('latin1')
  const shape = /'shape': \((\d+), (\d+)\)/.exec(header)
  if (!header.includes("'<f4'") || header.includes("'fortran_order': True") || shape === null)
    throw new Error(`unexpected npy header: ${header}`)
  const [n, width] = [Number(shape[1]), Number(shape[2])]
  const values = new Float32Array(n * width)
  const data = bytes.subarray(10 + headerBytes)
  for (let i = 0; i < values.length; i++) values[i] = data.readFloatLE(4 * i)
  return Array.from({ length: n }, (_, i) => values.subarray(i * width, (i + 1) * width))
}
