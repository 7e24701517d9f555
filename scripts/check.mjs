/**
 * `npm run check`: formatting, lints, and what dependencies may be.
 *
 * With `--advisories`, known vulnerabilities of dependencies as well: their database is on GitHub,
 * which a build machine need not reach.
 */

import { lintFacade } from './lint.mjs'
import { compileFacade, installDependencies, run } from './steps.mjs'
import { installCargoDeny, installRustComponents, installWebTools } from './system.mjs'

installRustComponents()
run('cargo', ['fmt', '--all', '--check'])
run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--', '-D', 'warnings'])
installWebTools()
const web = ['-p', 'realm-web', '--target', 'wasm32-unknown-unknown']
for (const features of ['cpu', 'webgpu']) {
  const only = ['--no-default-features', '--features', features]
  run('cargo', ['clippy', ...web, ...only, '--locked', '--', '-D', 'warnings'])
}
installCargoDeny()
const advisories = process.argv.includes('--advisories') ? ['advisories'] : []
run('cargo', ['deny', '--locked', 'check', 'bans', 'licenses', 'sources', ...advisories])
installDependencies()
compileFacade()
lintFacade()
