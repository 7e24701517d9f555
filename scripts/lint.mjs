/**
 * The checks of the TypeScript and JavaScript sources.
 */

import { runTool } from './steps.mjs'

/** Types, then lint rules and formatting. */
export function lintFacade() {
  runTool('typescript', ['--noEmit'])
  runTool('typescript', ['--project', 'tsconfig.browser.json'])
  runTool('typescript', ['--project', 'examples/browser-chat'])
  runTool('@biomejs/biome', ['ci'])
}
