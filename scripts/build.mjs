/**
 * `npm run build -- [--profile release|dist]`: dependencies, facade and addon.
 */

import { parseArgs } from 'node:util'
import { build } from './steps.mjs'

const { values } = parseArgs({
  options: { profile: { type: 'string', default: 'release' } },
})
await build({ profile: values.profile })
