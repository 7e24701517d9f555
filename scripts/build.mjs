/**
 * `npm run build -- [--profile release|dist] [--target native|web|all]`: dependencies and facade,
 * then the addon, the browser package, or both.
 */

import { parseArgs } from 'node:util'
import { build } from './steps.mjs'
import { installWebTools } from './system.mjs'
import { buildWeb } from './web.mjs'

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'release' },
    target: { type: 'string', default: 'native' },
  },
})
await build({ profile: values.profile, addon: values.target !== 'web' })
if (values.target !== 'native') {
  installWebTools()
  buildWeb()
}
