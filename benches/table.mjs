/** How results are shown. */

import { statSync } from 'node:fs'
import { basename } from 'node:path'
import { machine } from './record.mjs'

/** Figure of a sample, title, unit it is divided by, digits, and whether more or less of it is better. */
export const COLUMNS = [
  { figure: 'promptRate', title: 'prompt tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'decodeRate', title: 'decode tok/s', unit: 1, digits: 1, moreIsBetter: true },
  { figure: 'loadMs', title: 'load ms', unit: 1, digits: 0, moreIsBetter: false },
  { figure: 'firstAnswerMs', title: 'first answer ms', unit: 1, digits: 0, moreIsBetter: false },
  { figure: 'residentBytes', title: 'resident MiB', unit: 2 ** 20, digits: 0, moreIsBetter: false },
  { figure: 'peakResidentBytes', title: 'peak MiB', unit: 2 ** 20, digits: 0, moreIsBetter: false },
  { figure: 'otherCores', title: 'others, cores', unit: 1, digits: 2 },
]

/** The model, the machine, and what is about to be measured. */
export function printHeading(path, settings) {
  const { processor, cores, platform } = machine()
  console.log(`${basename(path)}, ${(statSync(path).size / 2 ** 20).toFixed(0)} MiB`)
  console.log(`${processor}, ${cores} cores, ${platform}, node ${process.version}`)
  console.log(settings)
}

/** One round of an engine, while the others are still to come. */
export function printSample(name, sample) {
  const cells = COLUMNS.map((column) => `${column.title} ${format(column, sample[column.figure])}`)
  console.error(`  ${name}: ${cells.join(', ')}`)
}

/** `median (min-max)` */
export function summaryCell(column, summary) {
  const { median, min, max } = summary[column.figure]
  return `${format(column, median)} (${format(column, min)}-${format(column, max)})`
}

/** Rows of cells, the columns aligned. */
export function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column]))
    console.log(cells.join('  ').trimEnd())
  }
}

function format({ unit, digits }, value) {
  return (value / unit).toFixed(digits)
}
