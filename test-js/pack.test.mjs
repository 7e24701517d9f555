/**
 * What npm publishes, installed in an empty folder with no registry and no Rust at hand.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { bundledModel, root } from './support/models.mjs'

const require = createRequire(import.meta.url)
const { currentPlatform, PLATFORMS, packageName } = require('../dist/platforms.js')

let folder

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'realm-pack-'))
  for (const packed of ['.', `./npm/${currentPlatform().name}`])
    npm(root, 'pack', packed, '--ignore-scripts', '--pack-destination', folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "app", "private": true }')
  const tarballs = readdirSync(folder).filter((name) => name.endsWith('.tgz'))
  assert.equal(tarballs.length, 2)
  // An empty cache and no registry: everything is in the two files.
  npm(
    folder,
    'install',
    ...tarballs.map((name) => `./${name}`),
    '--offline',
    '--cache',
    join(folder, 'cache'),
  )
})
after(() => rmSync(folder, { recursive: true, force: true }))

function npm(cwd, ...args) {
  const { status, stdout, stderr } = spawnSync('npm', args, {
    cwd,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  assert.equal(status, 0, `npm ${args[0]}: ${stdout}${stderr}`)
}

/** Runs a program of the installing project, without anything of this repository in reach. */
function node(name, text, ...args) {
  writeFileSync(join(folder, name), text)
  const { NODE_PATH: _, ...env } = process.env
  return spawnSync(process.execPath, [join(folder, name), ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...env, PATH: '' },
  })
}

function bytesBelow(path) {
  if (!statSync(path).isDirectory()) return statSync(path).size
  return readdirSync(path).reduce((sum, name) => sum + bytesBelow(join(path, name)), 0)
}

/** Every installed package's folder. */
function installed() {
  const scopes = readdirSync(join(folder, 'node_modules')).filter((name) => !name.startsWith('.'))
  return scopes.flatMap((scope) =>
    readdirSync(join(folder, 'node_modules', scope)).map((name) =>
      join(folder, 'node_modules', scope, name),
    ),
  )
}

const PROGRAM = `
  const realm = await Realm.create()
  const model = await realm.load(process.argv[2])
  const { text } = await model.generate('Once', { temperature: 0, maxTokens: 5 })
  const id = storeModel(process.argv[2])
  console.log(JSON.stringify({ text, id, backend: model.info.backend }))
  await realm.dispose()`

describe('the packed packages', () => {
  it('work by import and by require', () => {
    const imported = node(
      'app.mjs',
      `import { Realm } from '@realm-ai/realm'
      import { storeModel } from '@realm-ai/realm/native'${PROGRAM}`,
      bundledModel,
    )
    assert.equal(imported.stderr, '')
    const required = node(
      'app.cjs',
      `const { Realm } = require('@realm-ai/realm')
      const { storeModel } = require('@realm-ai/realm/native')
      ;(async () => {${PROGRAM}})()`,
      bundledModel,
    )
    assert.equal(required.stderr, '')
    assert.equal(imported.stdout, required.stdout)
    assert.ok(JSON.parse(imported.stdout).text.length > 0)
  })

  it('bring the realm command', () => {
    const bin = join(folder, 'node_modules', '.bin', 'realm')
    assert.ok(existsSync(bin))
    const { stdout, status } = spawnSync(
      process.execPath,
      [join(folder, 'node_modules', '@realm-ai', 'realm', 'dist', 'bin.js'), '--version'],
      { encoding: 'utf8', cwd: folder },
    )
    assert.equal(status, 0)
    assert.equal(stdout.trim(), require('../package.json').version)
  })

  it('are at most three, small, and run nothing when they are installed', (t) => {
    const packages = installed()
    assert.ok(packages.length <= 3, packages.join('\n'))
    const all = bytesBelow(join(folder, 'node_modules')) / 1e6
    // What pages load lies beside what Node loads, where it has been built, with a limit of its own
    // in `npm run size`.
    const pages = join(folder, 'node_modules/@realm-ai/realm/dist/browser')
    const browser = existsSync(pages) ? bytesBelow(pages) / 1e6 : 0
    t.diagnostic(
      `${packages.length} packages, ${all.toFixed(1)} MB, ${browser.toFixed(1)} of it for browsers`,
    )
    assert.ok(all - browser < 15, `${all - browser} MB`)
    assert.ok(browser < 7, `${browser} MB for browsers`)
    for (const path of packages) {
      const { scripts = {} } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
      for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
        assert.ok(!(name in scripts), `${path} has a script ${name}`)
      assert.ok(!existsSync(join(path, 'binding.gyp')))
    }
  })

  it('have the types of both kinds of module', () => {
    const program = (head) => `${head}
      export async function main(signal: AbortSignal): Promise<string> {
        const realm = await Realm.create({ threads: 1 })
        const model = await realm.load(new Blob([]), { contextLength: 64, signal })
        const generation: Generation = model.chat([{ role: 'user', content: 'Hi' }], { stop: ['x'] })
        for await (const { text, tokens } of generation) console.log(text, tokens.length)
        const { finishReason, usage } = await generation
        const id: number = storeModel('x')
        const logits: Float32Array = await model.computeLogits(await model.embedTokens([1]))
        // @ts-expect-error temperature is a number
        model.generate('x', { temperature: 'hot' })
        try {
          await model.dispose()
        } catch (error) {
          if (error instanceof RealmError && error.code === 'DISPOSED') return finishReason
        }
        return String(usage.totalTokens + id + logits.length)
      }`
    const imports = `import { type Generation, Realm, RealmError } from '@realm-ai/realm'
      import { storeModel } from '@realm-ai/realm/native'`
    writeFileSync(join(folder, 'user.mts'), program(imports))
    writeFileSync(join(folder, 'user.cts'), program(imports))
    const options = {
      module: 'nodenext',
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable'],
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      typeRoots: [join(root, 'node_modules', '@types')],
      types: ['node'],
    }
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: options, files: ['user.mts', 'user.cts'] }),
    )
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', folder], {
      encoding: 'utf8',
    })
    assert.equal(status, 0, stdout)
  })

  it('name the package that is missing when the engine is', () => {
    const platform = packageName(currentPlatform())
    rmSync(join(folder, 'node_modules', platform), { recursive: true })
    const { stdout, stderr } = node(
      'missing.mjs',
      `import { Realm } from '@realm-ai/realm'
      const error = await Realm.create().catch((error) => error)
      console.log(JSON.stringify({ code: error.code, message: error.message }))`,
    )
    assert.equal(stderr, '')
    const { code, message } = JSON.parse(stdout)
    assert.equal(code, 'BACKEND_UNAVAILABLE')
    assert.ok(message.includes(platform) && message.includes('npm install'), message)
  })
})

describe('the platform packages', () => {
  it('that the facade names exist, in the same version', () => {
    const { optionalDependencies, version } = require('../package.json')
    for (const [name, wanted] of Object.entries(optionalDependencies)) {
      const platform = PLATFORMS.find((candidate) => packageName(candidate) === name)
      assert.ok(platform, `${name} is a platform`)
      const manifest = require(`../npm/${platform.name}/package.json`)
      assert.equal(manifest.name, name)
      assert.equal(wanted, version)
      assert.equal(manifest.version, version)
      assert.deepEqual(manifest.os, [platform.os])
      assert.deepEqual(manifest.cpu, [platform.cpu])
      assert.deepEqual(manifest.libc, platform.libc && [platform.libc])
    }
  })
})
