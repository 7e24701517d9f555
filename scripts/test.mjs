/**
 * `npm test [-- PART...]`: sets up what is missing, then runs every test there is, or those parts
 * of them that are named.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { testOnArm } from './arm.mjs'
import { lintFacade } from './lint.mjs'
import { build, has, root, run } from './steps.mjs'
import {
  installChromium,
  installFirefox,
  installPseudoTerminal,
  installVulkanDriver,
  installWasiTarget,
  installWebTools,
} from './system.mjs'
import { testOnWasm } from './wasm-tests.mjs'
import { buildWeb } from './web.mjs'

/** What each part builds and runs, in the order of a run of all. */
const PARTS = {
  rust: () => {
    installVulkanDriver()
    if (has('cargo', ['nextest', '--version'])) {
      run('cargo', ['nextest', 'run', '--workspace', '--locked'])
      run('cargo', ['test', '--workspace', '--locked', '--doc'])
    } else {
      run('cargo', ['test', '--workspace', '--locked'])
    }
  },
  js: async () => {
    installVulkanDriver()
    installPseudoTerminal()
    await build()
    lintFacade()
    runSuite('test-js')
  },
  web: async () => {
    installVulkanDriver()
    installChromium()
    installFirefox()
    installWebTools()
    await build()
    buildWeb()
    run(process.execPath, [join(root, 'scripts', 'size.mjs')])
    runSuite('test-js/browser')
  },
  wasm: () => {
    installWasiTarget()
    testOnWasm()
  },
  arm: testOnArm,
}

/** Runs the test files of a folder. */
function runSuite(folder) {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith('.test.mjs'))
  const files = names.map((name) => join(folder, name))
  run(process.execPath, ['--test', '--test-reporter=spec', ...files])
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !Object.hasOwn(PARTS, name))
if (unknown.length > 0) {
  const names = Object.keys(PARTS).join(', ')
  console.error(`no part is called ${unknown.join(', ')}; there are: ${names}`)
  process.exit(2)
}
for (const [name, test] of Object.entries(PARTS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  const began = performance.now()
  await test()
  const minutes = ((performance.now() - began) / 60_000).toFixed(1)
  console.error(`${name}: passed, ${minutes} minutes`)
}
