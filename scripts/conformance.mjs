/**
 * `npm run conformance -- [--kit DIR] [--only GLOB] [--json]`: builds what is out
 * of date, then walks the conformance kit.
 */

import { build } from './steps.mjs'

await build()
const { main } = await import('../test-js/conformance/main.mjs')
process.exitCode = await main(process.argv.slice(2))
