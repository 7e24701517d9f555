/**
 * `npm run bench:kernels -- [--record] [options]`: the kernels beside the roofline. All other
 * options are those of `cargo bench -p realm-quant --bench kernels`, which this runs.
 */

import { cargoBench } from './cargo.mjs'

const args = process.argv.slice(2)
const options = args.filter((argument) => argument !== '--record')
const run = options.length > 0 ? { options: options.join(' ') } : {}
cargoBench('kernels', 'realm-quant', options, args.includes('--record') ? run : null)
