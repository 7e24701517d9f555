/**
 * What docs/ says about where things are is true: the dependencies of the crates, the list of
 * folders, and every path and link that a page names.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

/** Not from `support/`, so that this needs nothing that is built. */
const root = dirname(dirname(fileURLToPath(import.meta.url)))

const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8')

/** The first block of code behind a heading. */
function blockBehind(heading) {
  const [, rest] = page.split(`\n## ${heading}\n`)
  assert.ok(rest, `architecture.md has a chapter "${heading}"`)
  const [, block] = /```\n([\s\S]*?)```/.exec(rest) ?? []
  assert.ok(block, `the chapter "${heading}" has a block of code`)
  return block
}

/** What each crate uses, tests aside, as the page draws it: one line `crate -> crate, crate?`. */
function drawnDependencies() {
  const lines = blockBehind('Who uses whom').trimEnd().split('\n')
  return lines.map((line) => {
    const [, name, uses] = /^(\w+) +-> ([\w, ?]+)$/.exec(line) ?? assert.fail(`"${line}"`)
    return [name, uses.split(', ').sort()]
  })
}

/** The same as cargo knows it; `?` is behind what a feature brings. */
function realDependencies() {
  const { stdout, stderr, status } = spawnSync(
    'cargo',
    ['metadata', '--no-deps', '--offline', '--format-version', '1'],
    { cwd: root, encoding: 'utf8' },
  )
  assert.equal(status, 0, stderr)
  const short = (name) => name.replace('realm-', '')
  return JSON.parse(stdout).packages.map(({ name, dependencies }) => {
    const own = dependencies.filter((each) => each.name.startsWith('realm-') && each.kind !== 'dev')
    return [short(name), own.map((each) => short(each.name) + (each.optional ? '?' : '')).sort()]
  })
}

describe('the picture of dependencies', () => {
  it('has the arrows that the crates have, and no others', () => {
    const lines = (dependencies) =>
      dependencies
        .filter(([, uses]) => uses.length > 0)
        .map(([name, uses]) => `${name} -> ${uses.join(', ')}`)
        .sort()
    assert.deepEqual(lines(drawnDependencies()), lines(realDependencies()))
  })

  it('is in layers: a crate uses those above it alone', () => {
    // The one that uses none has no line.
    const above = new Set(['gguf'])
    for (const [name, uses] of drawnDependencies()) {
      for (const used of uses) {
        assert.ok(above.has(used.replace('?', '')), `${name} uses ${used}, which is not above it`)
      }
      above.add(name)
    }
  })
})

describe('the list of layers', () => {
  it('names every crate, and no folder that is not there', () => {
    const named = [...blockBehind('The layers').matchAll(/\bcrates\/(\w+)/g)].map(
      ([, name]) => name,
    )
    assert.deepEqual(named.sort(), readdirSync(join(root, 'crates')).sort())
  })
})

const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => join('docs', name))]

for (const name of pages.filter((name) => name.endsWith('.md'))) {
  const text = readFileSync(join(root, name), 'utf8')

  describe(`what ${name} refers to`, () => {
    it('is there: paths in code marks', () => {
      const top = 'crates|ts|test-js|scripts|docs|benches|tools|fuzz|npm|examples'
      // Names that a reader puts something else in place of are in capitals.
      const paths = text.matchAll(new RegExp(`\`((?:${top})/[\\w./-]+)\``, 'g'))
      const missing = [...paths]
        .map(([, path]) => path)
        .filter((path) => !/[A-Z]{3}/.test(path) && !existsSync(join(root, path)))
      assert.deepEqual(missing, [])
    })

    it('is there: links to files and to headings', () => {
      const missing = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
        .map(([, link]) => link)
        .filter((link) => !/^https?:/.test(link) && !leadsSomewhere(name, link))
      assert.deepEqual(missing, [])
    })
  })
}

/** Whether a link of a page leads to a file and, in it, to a heading. */
function leadsSomewhere(name, link) {
  const [file, heading] = link.split('#')
  const path = file === '' ? join(root, name) : join(root, dirname(name), file)
  if (!existsSync(path)) return false
  if (heading === undefined) return true
  const headings = readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)
  const anchor = (text) =>
    text
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-')
  return [...headings].some(([, text]) => anchor(text) === heading)
}
