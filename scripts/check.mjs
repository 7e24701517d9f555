/**
 * `npm run check`: formatting, lints, licences and advisories.
 */

import { lintFacade } from './lint.mjs'
import { installDependencies, run } from './steps.mjs'
import { installCargoDeny, installRustComponents } from './system.mjs'

installRustComponents()
run('cargo', ['fmt', '--all', '--check'])
run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--', '-D', 'warnings'])
installCargoDeny()
run('cargo', ['deny', '--locked', 'check'])
installDependencies()
lintFacade()
