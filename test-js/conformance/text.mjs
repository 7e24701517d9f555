/**
 * Cases of kind `tokenizer` and `chat-template`: exact ids, exact bytes, exact strings.
 */

import { RealmError, renderChatTemplate } from '@realm-ai/realm'
import { withModel } from '../support/models.mjs'

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** Counts the texts whose ids or bytes differ; none may. */
export function tokenizer(kit, { vocab, texts: textsFile, expected, upstream }) {
  const texts = kit.readJson(textsFile)
  const { cases } = kit.readJson(expected)
  return withModel(
    kit.readModel(vocab),
    (model) => {
      const wrong = [
        ...cases.flatMap((entry) => wrongText(model, texts[entry.text_index], entry)),
        ...wrongUpstream(model, kit, upstream),
      ]
      return { worst: wrong.length, bound: 0, pass: wrong.length === 0, note: wrong[0] ?? '' }
    },
    { vocabOnly: true, backend: kit.backend },
  )
}

/** What is wrong with one text, in words. */
function wrongText(model, text, entry) {
  const both = entry.ids_add_parse === 'same' ? entry.ids : entry.ids_add_parse
  const checks = [
    ['ids', model.tokenize(text), entry.ids],
    ['ids_add_parse', model.tokenize(text, { addSpecial: true, parseSpecial: true }), both],
    ['ids_parse', model.tokenize(text, { parseSpecial: true }), entry.ids_parse],
    ['decode', model.detokenize(entry.ids), fromHex(entry.decode_hex)],
    [
      'decode_keep_special',
      model.detokenize(both, { special: true }),
      fromHex(entry.decode_add_parse_keep_special_hex, entry.decode_hex),
    ],
    [
      'decode_skip_special',
      model.detokenize(both),
      fromHex(entry.decode_add_parse_skip_special_hex, entry.decode_hex),
    ],
  ]
  return checks
    .filter(([, got, want]) => want !== undefined && String(got) !== String(want))
    .map(
      ([what, got, want]) =>
        `${what} of ${JSON.stringify(text)}: got ${JSON.stringify(shown(got))}, expected ${JSON.stringify(shown(want))}`,
    )
}

function wrongUpstream(model, kit, upstream) {
  if (!upstream) return []
  const [inputs, outputs] = upstream.map((path) => kit.readText(path))
  const lines = outputs.split('\n')
  return inputs.split('\n__ggml_vocab_test__\n').flatMap((text, i) => {
    const want = lines[i].trim().split(/\s+/).filter(Boolean).join(',')
    const got = model.tokenize(text).join(',')
    return got === want ? [] : [`upstream ${JSON.stringify(text)}: got ${got}, expected ${want}`]
  })
}

function fromHex(hex, same) {
  if (hex === undefined) return undefined
  return decoder.decode(Buffer.from(hex === 'same' ? same : hex, 'hex'))
}

function shown(value) {
  return typeof value === 'string' ? value : [...value]
}

/** One rendering, or the error that the template must raise. */
export function chatTemplate(kit, { id, template, case_file: caseFile }) {
  const name = id.replace(/^template\//, '')
  const found = kit.readJson(caseFile).cases.find((entry) => entry.id === name)
  if (found === undefined) throw new Error(`${caseFile} has no case ${name}`)
  const got = render(kit.readText(template), found)
  const want = found.expected_error === undefined ? found.expected : 'TEMPLATE_ERROR'
  return {
    worst: got === want ? 0 : 1,
    bound: 0,
    pass: got === want,
    note: got === want ? '' : firstDifference(got, want),
  }
}

function render(template, { messages, tools, variables, add_generation_prompt: add, ...rest }) {
  try {
    return renderChatTemplate(template, messages, {
      tools: tools ?? undefined,
      variables,
      addGenerationPrompt: add,
    })
  } catch (error) {
    if (!(error instanceof RealmError) || rest.expected_error === undefined) throw error
    return error.code
  }
}

function firstDifference(got, want) {
  let i = 0
  while (i < got.length && got[i] === want[i]) i++
  const part = (text) => JSON.stringify(text.slice(Math.max(0, i - 20), i + 40))
  return `at ${i}: got ${part(got)}, expected ${part(want)}`
}
