/**
 * The README's programs do what it says.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { root } from './support/models.mjs'

const programs = [
  ...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```js\n([\s\S]*?)```/g),
].map(([, program]) => program)

describe('a program of the README', () => {
  it('is there', () => assert.ok(programs.length >= 1))

  for (const [i, program] of programs.entries()) {
    it(`runs as it stands and says something: program ${i + 1}`, () => {
      // Below the repository, so that the package is found by its name.
      const folder = join(root, 'target', 'readme')
      mkdirSync(folder, { recursive: true })
      const path = join(folder, `program-${i + 1}.mjs`)
      writeFileSync(path, program)
      const { stdout, stderr, status } = spawnSync(process.execPath, [path], {
        cwd: root,
        encoding: 'utf8',
      })
      assert.equal(stderr, '')
      assert.equal(status, 0)
      assert.notEqual(stdout.trim(), '')
    })
  }
})
