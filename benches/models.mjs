/**
 * `node benches/models.mjs SHAPE:TYPE...`: model files with the shapes of known
 * models and random weights, under `benches/.models/`.
 *
 * The time a token takes depends on shapes and types, not on the values of the
 * weights, so these stand in for files that would have to be downloaded. The
 * same name always gives the same bytes.
 */

import { existsSync } from 'node:fs'
import { mkdir, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeGguf } from './gguf-writer.mjs'
import { randomTensor, seedOf, TENSOR_TYPES } from './tensor-types.mjs'

/** Longer than some of the published ones, so that long contexts can be measured on all shapes. */
const CONTEXT_LENGTH = 32768

/** GGUF's number of the type that vectors are kept in. */
const F32_ID = 0

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), '.models')

/** Shapes from the models' published configurations; `tied`: the head is the embedding. */
export const SHAPES = {
  'llama-110m': {
    architecture: 'llama',
    nLayers: 12,
    hiddenSize: 768,
    nHeads: 12,
    nKvHeads: 12,
    ffnSize: 2048,
    vocabularySize: 32000,
    ropeBase: 10000,
    normEpsilon: 1e-5,
    tied: false,
  },
  'tinyllama-1.1b': {
    architecture: 'llama',
    nLayers: 22,
    hiddenSize: 2048,
    nHeads: 32,
    nKvHeads: 4,
    ffnSize: 5632,
    vocabularySize: 32000,
    ropeBase: 10000,
    normEpsilon: 1e-5,
    tied: false,
  },
  'qwen2.5-0.5b': {
    architecture: 'qwen2',
    nLayers: 24,
    hiddenSize: 896,
    nHeads: 14,
    nKvHeads: 2,
    ffnSize: 4864,
    vocabularySize: 151936,
    ropeBase: 1e6,
    normEpsilon: 1e-6,
    tied: true,
  },
  'llama-3.2-1b': {
    architecture: 'llama',
    nLayers: 16,
    hiddenSize: 2048,
    nHeads: 32,
    nKvHeads: 8,
    ffnSize: 8192,
    vocabularySize: 128256,
    ropeBase: 500000,
    normEpsilon: 1e-5,
    tied: true,
  },
}

/**
 * Which type the quantiser of llama.cpp gives a matrix, by the file's type: most matrices,
 * the head, and the matrices that matter more in some layers. `id` is `general.file_type`.
 */
export const FILE_TYPES = {
  F16: { id: 1, most: 'F16', head: 'F16' },
  Q4_0: { id: 2, most: 'Q4_0', head: 'Q6_K' },
  Q8_0: { id: 7, most: 'Q8_0', head: 'Q8_0' },
  Q4_K_M: { id: 15, most: 'Q4_K', head: 'Q6_K', sensitive: 'Q6_K' },
}

/** What replaces a type of 256-value blocks where a row is no multiple of 256. */
const SHORT_ROW_TYPES = { Q4_K: 'Q5_0', Q6_K: 'Q8_0' }

/**
 * The path of a model file, which is made if it does not exist.
 * @param name SHAPE:TYPE, from SHAPES and FILE_TYPES
 */
export async function modelFile(name) {
  const [shapeName, typeName] = name.split(':')
  const shape = SHAPES[shapeName]
  const fileType = FILE_TYPES[typeName]
  if (shape === undefined || fileType === undefined) {
    throw new Error(
      `${name} is no SHAPE:TYPE; shapes: ${Object.keys(SHAPES).join(', ')}; ` +
        `types: ${Object.keys(FILE_TYPES).join(', ')}`,
    )
  }
  const path = join(FOLDER, `${shapeName}.${typeName}.gguf`)
  if (existsSync(path)) return path
  await mkdir(FOLDER, { recursive: true })
  const unfinished = `${path}.part`
  await writeGguf(unfinished, metadataOf(shapeName, shape, fileType), tensorsOf(shape, fileType))
  await rename(unfinished, path)
  return path
}

function metadataOf(name, shape, fileType) {
  const { architecture } = shape
  const vocabulary = vocabularyOf(shape.vocabularySize)
  return [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', `${name} with random weights`],
    ['general.file_type', 'u32', fileType.id],
    [`${architecture}.block_count`, 'u32', shape.nLayers],
    [`${architecture}.context_length`, 'u32', CONTEXT_LENGTH],
    [`${architecture}.embedding_length`, 'u32', shape.hiddenSize],
    [`${architecture}.feed_forward_length`, 'u32', shape.ffnSize],
    [`${architecture}.attention.head_count`, 'u32', shape.nHeads],
    [`${architecture}.attention.head_count_kv`, 'u32', shape.nKvHeads],
    [`${architecture}.attention.layer_norm_rms_epsilon`, 'f32', shape.normEpsilon],
    [`${architecture}.rope.dimension_count`, 'u32', shape.hiddenSize / shape.nHeads],
    [`${architecture}.rope.freq_base`, 'f32', shape.ropeBase],
    [`${architecture}.vocab_size`, 'u32', shape.vocabularySize],
    ['tokenizer.ggml.model', 'string', 'llama'],
    ['tokenizer.ggml.tokens', 'string[]', vocabulary.map(({ text }) => text)],
    ['tokenizer.ggml.scores', 'f32[]', vocabulary.map((_, id) => -id)],
    ['tokenizer.ggml.token_type', 'i32[]', vocabulary.map(({ type }) => type)],
    ['tokenizer.ggml.unknown_token_id', 'u32', 0],
    ['tokenizer.ggml.bos_token_id', 'u32', 1],
    ['tokenizer.ggml.eos_token_id', 'u32', 2],
    ['tokenizer.ggml.add_bos_token', 'bool', true],
  ]
}

/** A SentencePiece vocabulary: three special tokens, the 256 bytes, then words of no language. */
function vocabularyOf(size) {
  const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6]
  const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, '0')
  const vocabulary = [
    { text: '<unk>', type: UNKNOWN },
    { text: '<s>', type: CONTROL },
    { text: '</s>', type: CONTROL },
    ...Array.from({ length: 256 }, (_, byte) => ({ text: `<0x${hex(byte)}>`, type: BYTE })),
  ]
  for (let id = vocabulary.length; id < size; id++) {
    vocabulary.push({ text: `▁${id.toString(36)}`, type: NORMAL })
  }
  return vocabulary
}

/** What `writeGguf` takes for every tensor, in the order of llama.cpp's converter. */
function tensorsOf(shape, fileType) {
  const { nLayers, hiddenSize, ffnSize, vocabularySize, architecture, tied } = shape
  const kvSize = (hiddenSize / shape.nHeads) * shape.nKvHeads
  const tensors = []
  const matrix = (name, rowLength, nRows, wanted = fileType.most) => {
    const fits = rowLength % TENSOR_TYPES[wanted].blockLength === 0
    const type = fits ? wanted : SHORT_ROW_TYPES[wanted]
    const { id, blockLength, blockBytes } = TENSOR_TYPES[type]
    const nValues = rowLength * nRows
    tensors.push({
      name,
      shape: [rowLength, nRows],
      typeId: id,
      bytes: (nValues / blockLength) * blockBytes,
      chunks: () => randomTensor(type, nValues, seedOf(name)),
    })
  }
  const vector = (name, length, value) => {
    const values = new Float32Array(length).fill(value)
    const bytes = new Uint8Array(values.buffer)
    tensors.push({
      name,
      shape: [length],
      typeId: F32_ID,
      bytes: bytes.length,
      chunks: () => [bytes],
    })
  }
  const embeddingType = tied ? fileType.head : fileType.most
  matrix('token_embd.weight', hiddenSize, vocabularySize, embeddingType)
  for (let layer = 0; layer < nLayers; layer++) {
    const name = (part) => `blk.${layer}.${part}`
    const sensitive = usesMoreBits(layer, nLayers) ? fileType.sensitive : undefined
    vector(name('attn_norm.weight'), hiddenSize, 1)
    matrix(name('attn_q.weight'), hiddenSize, hiddenSize)
    matrix(name('attn_k.weight'), hiddenSize, kvSize)
    matrix(name('attn_v.weight'), hiddenSize, kvSize, sensitive)
    if (architecture === 'qwen2') {
      vector(name('attn_q.bias'), hiddenSize, 0)
      vector(name('attn_k.bias'), kvSize, 0)
      vector(name('attn_v.bias'), kvSize, 0)
    }
    matrix(name('attn_output.weight'), hiddenSize, hiddenSize)
    vector(name('ffn_norm.weight'), hiddenSize, 1)
    matrix(name('ffn_gate.weight'), hiddenSize, ffnSize)
    matrix(name('ffn_up.weight'), hiddenSize, ffnSize)
    matrix(name('ffn_down.weight'), ffnSize, hiddenSize, sensitive)
  }
  vector('output_norm.weight', hiddenSize, 1)
  if (!tied) matrix('output.weight', hiddenSize, vocabularySize, fileType.head)
  return tensors
}

/** The layers whose attn_v and ffn_down get more bits; `use_more_bits` of llama.cpp's `llama-quant.cpp`. */
function usesMoreBits(layer, nLayers) {
  const eighth = Math.floor(nLayers / 8)
  return layer < eighth || layer >= Math.floor((7 * nLayers) / 8) || (layer - eighth) % 3 === 2
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const names = process.argv.slice(2)
  if (names.length === 0) {
    console.error('usage: node benches/models.mjs SHAPE:TYPE...')
    console.error(`  shapes: ${Object.keys(SHAPES).join(', ')}`)
    console.error(`  types:  ${Object.keys(FILE_TYPES).join(', ')}`)
    process.exit(2)
  }
  for (const name of names) {
    const path = await modelFile(name)
    console.log(`${path} ${((await stat(path)).size / 1e6).toFixed(0)} MB`)
  }
}
