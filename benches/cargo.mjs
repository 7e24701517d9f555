/** Benches that are Rust programs, and their results in the record. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { addToRecord, today } from './record.mjs'

/**
 * Runs a bench of a crate, and adds what it measured to the record where that is asked for.
 *
 * @param name   of the bench
 * @param crate  that has it
 * @param args   of the bench
 * @param record what tells this run from others in the record, or null to leave it alone
 */
export function cargoBench(name, crate, args, record) {
  const folder = mkdtempSync(join(tmpdir(), `realm-${name}-`))
  const json = join(folder, 'result.json')
  try {
    const command = ['bench', '--locked', '-p', crate, '--bench', name, '--', ...args]
    const { status } = spawnSync('cargo', [...command, '--json', json], { stdio: 'inherit' })
    if (status !== 0) {
      process.exitCode = 1
      return
    }
    if (record === null) return
    const measured = JSON.parse(readFileSync(json, 'utf8'))
    const result = { run: { bench: name, ...record }, date: today(), ...measured }
    console.log(`recorded in ${addToRecord(result)}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
