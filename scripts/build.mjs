/**
 * `npm run build -- [--profile release|dist] [--platform NAME]`: dependencies, facade and addon.
 *
 * The addon is made for this machine unless another platform is named, such as linux-arm64-gnu,
 * which can be built for on x64 Linux.
 */

import { parseArgs } from 'node:util'
import { build } from './steps.mjs'
import { installCrossCompiler } from './system.mjs'

const { values } = parseArgs({
  options: { profile: { type: 'string', default: 'release' }, platform: { type: 'string' } },
})
installCrossCompiler(values.platform)
await build(values)
