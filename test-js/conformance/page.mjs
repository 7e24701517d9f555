/**
 * The table as a page of the documentation: the same on every machine that
 * computes the same.
 */

const HEAD = `# Conformance

Every case of the conformance kit, run through the public API on the CPU: what it is, the worst
difference from the reference (rounded up to one digit), and the bound it has to meet.

Written by \`npm run conformance -- --write\`; do not edit.

| kind | what the worst difference counts |
|---|---|
| \`logits\` | largest difference of a logit from transformers in f32; the greedy answer must be equal as well |
| \`quant-logits\` | the same from exactly dequantised weights; the root mean square has a bound of its own |
| \`dequant\` | values that differ in any bit |
| \`tokenizer\` | texts whose ids or bytes differ |
| \`chat-template\` | 1 when the text differs |
| \`embedding\` | largest difference of a value, or of the cosine from 1 |
| \`malformed\` | seconds until the refusal |
`

/** The whole page. */
export function page(results) {
  const rows = results.map(row)
  return `${HEAD}\n| case | kind | worst | bound | |\n|---|---|---:|---:|---|\n${rows.join('\n')}\n`
}

/** A line of the table; times are rounded up to seconds, since they vary. */
function row({ id, kind, status, worst, bound }) {
  const shown = kind === 'malformed' && worst !== null ? Math.ceil(worst) : worst
  return `| ${id} | ${kind} | ${roundedUp(shown)} | ${bound === null ? '-' : Number(bound.toPrecision(3))} | ${status} |`
}

/** One digit, rounded up: a difference is never larger than what is written. */
function roundedUp(value) {
  if (value === null) return '-'
  if (value === 0 || Number.isInteger(value)) return String(value)
  const unit = 10 ** Math.floor(Math.log10(value))
  // 3 units may be 3.0000000000000004 of them.
  return String(Number((Math.ceil(value / unit - 1e-9) * unit).toPrecision(1)))
}
