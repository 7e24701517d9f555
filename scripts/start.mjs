/**
 * `npm start -- PROMPT [options]`: builds what is out of date, then `realm run`
 * with the bundled model.
 */

import { join } from 'node:path'
import { build, root } from './steps.mjs'

await build()
const { main } = (await import('../dist/cli.js')).default
const model = join(root, 'examples', 'models', 'realm-tiny-stories-Q8_0.gguf')
// Of an option that is given twice, the last counts.
process.exitCode = await main(['run', '--model', model, ...process.argv.slice(2)])
