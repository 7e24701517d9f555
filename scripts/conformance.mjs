/**
 * `npm run conformance -- [--kit DIR] [--only GLOB] [--backend NAME] [--browser] [--json] [--write]`:
 * builds what is out of date, then walks the conformance kit; `--write` makes
 * docs/conformance.md of the whole table.
 */

import { build } from './steps.mjs'

await build()
const { main } = await import('../test-js/conformance/main.mjs')
process.exitCode = await main(process.argv.slice(2))
