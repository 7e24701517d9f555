/** How results are shown: on the terminal, and in the record's README. */

import { statSync } from 'node:fs'
import { basename } from 'node:path'
import { machine } from './machine.mjs'

/** Figure of a sample, title, unit it is divided by, digits, and whether more or less of it is better. */
export const COLUMNS = [
  { figure: 'promptRate', title: 'prompt tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'decodeRate', title: 'decode tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'loadMs', title: 'load ms', unit: 1, digits: 0, moreIsBetter: false },
  { figure: 'firstAnswerMs', title: 'first answer ms', unit: 1, digits: 0, moreIsBetter: false },
  { figure: 'restMs', title: 'at rest ms', unit: 1, digits: 0, moreIsBetter: false },
  { figure: 'residentBytes', title: 'resident MiB', unit: 2 ** 20, digits: 0, moreIsBetter: false },
  { figure: 'peakResidentBytes', title: 'peak MiB', unit: 2 ** 20, digits: 0, moreIsBetter: false },
  { figure: 'otherCores', title: 'others, cores', unit: 1, digits: 2 },
]

const CONTEXT_COLUMNS = [
  ...COLUMNS.slice(0, 2),
  { figure: 'decodeBytesPerSecond', title: 'weights GB/s', unit: 1e9, digits: 1 },
  { figure: 'memoryBytesPerSecond', title: 'memory GB/s', unit: 1e9, digits: 1 },
  { figure: 'percentOfMemory', title: '% of memory', unit: 1, digits: 0 },
]

const BROWSER_COLUMNS = [
  ...COLUMNS.slice(0, 1),
  { figure: 'promptRatePerCpu', title: 'per CPU-second', unit: 1, digits: 1, moreIsBetter: true },
  ...COLUMNS.slice(1, 2),
  { figure: 'decodeRatePerCpu', title: 'per CPU-second', unit: 1, digits: 1, moreIsBetter: true },
]

/** The rows of a result's table, titles first, by `run.bench`. */
const TABLES = {
  peers: peersRows,
  contexts: contextsRows,
  browser: browserRows,
  'browser-loads': loadsRows,
  kernels: kernelsRows,
  perplexity: perplexityRows,
}

/** Rows of cells of what a bench has measured. */
export function tableOf(result) {
  return TABLES[result.run.bench](result)
}

/** One line about what was measured. */
export function titleOf({ run, rounds }) {
  const { bench, model, threads, layout, promptTokens, decodeTokens, nLoads } = run
  const parts = [
    bench,
    model,
    threads && `${threads} threads`,
    promptTokens && `prompt of ${promptTokens}`,
    decodeTokens && `${decodeTokens} tokens decoded`,
    nLoads && `${nLoads} loads`,
    layout && layout !== 'default' && layout,
    run.options,
    rounds && `median (least-greatest) of ${rounds} rounds`,
  ]
  return parts.filter(Boolean).join(', ')
}

/** The model, the machine, and what is about to be measured. */
export function printHeading(path, settings) {
  const { processor, cores, platform } = machine()
  console.log(`${basename(path)}, ${(statSync(path).size / 2 ** 20).toFixed(0)} MiB`)
  console.log(`${processor}, ${cores} cores, ${platform}, node ${process.version}`)
  console.log(settings)
}

/** One round of an engine, while the others are still to come. */
export function printSample(name, sample) {
  const columns = new Set([...COLUMNS, ...CONTEXT_COLUMNS, ...BROWSER_COLUMNS])
  const cells = [...columns]
    .filter(({ figure }) => typeof sample[figure] === 'number')
    .map((column) => `${column.title} ${format(column, sample[column.figure])}`)
  console.error(`  ${name}: ${cells.join(', ')}`)
}

/** Rows of cells, the columns aligned. */
export function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column]))
    console.log(cells.join('  ').trimEnd())
  }
}

/** The same in Markdown. */
export function markdownTable([titles, ...rows]) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n')
}

function peersRows({ results }) {
  return enginesRows(results, COLUMNS)
}

function browserRows({ results }) {
  return enginesRows(results, BROWSER_COLUMNS)
}

/** A row per engine: MiB that its processes hold after so many loads. */
function loadsRows({ results }) {
  const engines = Object.entries(results)
  const loads = Object.keys(engines.find(([, one]) => one.residentBytes)?.[1].residentBytes ?? {})
  return [
    ['resident MiB after loads', ...loads],
    ...engines.map(([name, { version, residentBytes }]) => [
      `${name} ${version}`,
      ...loads.map((n) => (residentBytes ? (residentBytes[n] / 2 ** 20).toFixed(0) : '-')),
    ]),
  ]
}

/** How many times faster the engines of a browser are with several threads than with one. */
export function scalingRows(one, several) {
  const columns = [COLUMNS[0], COLUMNS[1]]
  return [
    [`${several.run.model}, ${several.run.threads} threads to 1`, ...columns.map((c) => c.title)],
    ...Object.entries(several.results).map(([name, summary]) => [
      name,
      ...columns.map((column) => ratioCell(column, [summary, one.results[name]])),
    ]),
  ]
}

/** A row per engine, and how many times better the first is than each of the others. */
function enginesRows(results, columns) {
  const engines = Object.entries(results)
  const rows = engines.map(([name, summary]) => [
    `${name} ${summary.version}`,
    ...columns.map((column) => summaryCell(column, summary)),
  ])
  const [[, ours], ...others] = engines
  for (const [name, theirs] of others) {
    if (!columns.some(({ figure }) => theirs[figure])) continue
    const ratios = columns.map((column) => ratioCell(column, [ours, theirs]))
    rows.push([`ratio of medians to ${name}`, ...ratios])
  }
  return [['', ...columns.map(({ title }) => title)], ...rows]
}

function contextsRows({ results }) {
  const rows = results.map((summary) => [
    String(summary.context.median),
    ...CONTEXT_COLUMNS.map((column) => summaryCell(column, summary)),
  ])
  return [['context', ...CONTEXT_COLUMNS.map(({ title }) => title)], ...rows]
}

/** A row per format, layout and number of threads, a column per number of tokens. */
function kernelsRows({ cells }) {
  const tokens = [...new Set(cells.map(({ n }) => n))]
  const rows = new Map()
  for (const cell of cells) {
    const { format, layout, threads, kernel, n } = cell
    const name = [format, layout, String(threads), kernel]
    const row = rows.get(name.join()) ?? [...name, ...tokens.map(() => '-')]
    row[name.length + tokens.indexOf(n)] = kernelCell(cell)
    rows.set(name.join(), row)
  }
  return [
    ['format', 'layout', 'threads', 'kernel', ...tokens.map((n) => `n=${n}`)],
    ...rows.values(),
  ]
}

function kernelCell({ n, gbPerSecond, gops, percent, bound }) {
  if (gops === undefined) return 'interrupted'
  const rate = n === 1 ? `${gbPerSecond.toFixed(1)} GB/s` : `${gops.toFixed(0)} GOPS`
  return percent === null ? rate : `${rate}, ${percent.toFixed(0)} % of ${bound}`
}

function perplexityRows({ files }) {
  const rows = files.map(({ name, tokens, perplexity, exactPerplexity }) => [
    name,
    String(tokens),
    perplexity.toFixed(4),
    exactPerplexity.toFixed(4),
    `${(100 * (perplexity / exactPerplexity - 1)).toFixed(4)} %`,
  ])
  return [['file', 'tokens', 'perplexity', 'of exact arithmetic', 'difference'], ...rows]
}

/** `median (min-max)`, or `-` where it was not measured. */
function summaryCell(column, summary) {
  if (summary[column.figure] === undefined) return '-'
  const { median, min, max } = summary[column.figure]
  return `${format(column, median)} (${format(column, min)}-${format(column, max)})`
}

/** How many times better the first engine's median is than the second's. */
function ratioCell({ figure, moreIsBetter }, [ours, theirs]) {
  if (moreIsBetter === undefined || !ours[figure] || !theirs[figure]) return ''
  const [a, b] = [ours[figure].median, theirs[figure].median]
  return `${(moreIsBetter ? a / b : b / a).toFixed(2)}x`
}

function format({ unit, digits }, value) {
  return (value / unit).toFixed(digits)
}
