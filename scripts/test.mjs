/**
 * `npm test`: sets up what is missing, then runs every test there is.
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

installVulkanDriver()
installChromium()
installFirefox()
installPseudoTerminal()
installWasiTarget()
installWebTools()
await build()
buildWeb()
run(process.execPath, [join(root, 'scripts', 'size.mjs')])
lintFacade()

if (has('cargo', ['nextest', '--version'])) {
  run('cargo', ['nextest', 'run', '--workspace', '--locked'])
  run('cargo', ['test', '--workspace', '--locked', '--doc'])
} else {
  run('cargo', ['test', '--workspace', '--locked'])
}
testOnArm()
testOnWasm()

const files = ['test-js', 'test-js/browser'].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.test.mjs'))
    .map((name) => join(folder, name)),
)
run(process.execPath, ['--test', '--test-reporter=spec', ...files])
