/**
 * A real Firefox for the tests: it is started on a page, which reports back to the test.
 */

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFirefox } from './firefox-path.mjs'

/** Nothing of its own on the network, no questions. */
const PREFERENCES = {
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,',
  'toolkit.telemetry.reportingpolicy.firstRun': false,
}

/** How long a page may take before the test is told that it said nothing. */
const PATIENCE_MS = 120_000

/**
 * Runs a function in a page of `server`, after its modules, in a Firefox of its own.
 *
 * @param preferences Firefox's own settings, by name
 * @param patienceMs how long the page may take
 * @returns what the function returns
 */
export async function runInFirefox(server, run, options = {}) {
  const { modules = [], preferences = {}, patienceMs = PATIENCE_MS } = options
  const imports = modules.map((path) => `await import(${JSON.stringify(path)})`).join('\n')
  const report = await listen(patienceMs)
  const script = `
    let answer
    try {
      ${imports}
      answer = { value: await (${run})() }
    } catch (error) {
      answer = { error: error.name + ': ' + error.message + '\\n' + error.stack }
    }
    await fetch(${JSON.stringify(report.url)}, { method: 'POST', body: JSON.stringify(answer) })`
  const put = (path, text, type) => server.files.set(path, { bytes: Buffer.from(text), type })
  put('/firefox.js', script, 'text/javascript')
  put('/firefox', '<!doctype html><script type="module" src="/firefox.js"></script>', 'text/html')

  const profile = mkdtempSync(join(tmpdir(), 'realm-firefox-'))
  const lines = Object.entries({ ...PREFERENCES, ...preferences }).map(
    ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`,
  )
  writeFileSync(join(profile, 'user.js'), lines.join('\n'))
  const args = ['--headless', '--no-remote', '--profile', profile, `${server.origin}/firefox`]
  const firefox = spawn(findFirefox() ?? 'firefox', args, { stdio: 'ignore' })
  const ended = new Promise((resolve) => firefox.once('close', resolve))
  try {
    const failed = new Promise((_, reject) => firefox.once('error', reject))
    const { value, error } = await Promise.race([report.answer, failed])
    if (error !== undefined) throw new Error(error)
    return value
  } finally {
    report.close()
    firefox.kill()
    await ended
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Waits for one answer. */
async function listen(patienceMs) {
  let server
  const answer = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('the page reported nothing')), patienceMs).unref()
    server = createServer(async (request, response) => {
      const parts = await request.toArray()
      response.writeHead(200, { 'access-control-allow-origin': '*' }).end()
      resolve(JSON.parse(Buffer.concat(parts).toString()))
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${server.address().port}/`, answer, close: () => server.close() }
}
