/**
 * `npm run build -- [--profile release|dist|dev] [--target native|web|all] [--platform NAME]`:
 * dependencies and facade, then the addon, the browser package, or both.
 *
 * The addon is made for this machine unless another platform is named, such as linux-arm64-gnu,
 * which can be built for on x64 Linux.
 */

import { parseArgs } from 'node:util'
import { build } from './steps.mjs'
import { installCrossCompiler, installWebTools } from './system.mjs'
import { buildWeb } from './web.mjs'

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'release' },
    target: { type: 'string', default: 'native' },
    platform: { type: 'string' },
  },
})
const { profile, target, platform } = values
if (target !== 'web') installCrossCompiler(platform)
await build({ profile, platform, addon: target !== 'web' })
if (target !== 'native') {
  installWebTools()
  buildWeb()
}
