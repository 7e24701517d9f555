/**
 * `npm run bench:browser -- --model FILE|SHAPE:TYPE`: Realm, wllama and flare in one Chromium, on
 * the same file and texts. Options and columns: README.md here.
 */

import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { launchChromium } from '../test-js/support/chromium.mjs'
import { inFolder, serveFiles } from '../test-js/support/file-server.mjs'
import { count, RUN_OPTIONS, readRunOptions } from './options.mjs'
import { addToRecord, today } from './record.mjs'
import { summarise } from './rounds.mjs'
import { printHeading, printSample, printTable, tableOf } from './table.mjs'

const HERE = dirname(fileURLToPath(import.meta.url))
const MODULES = join(HERE, 'node_modules')
/** The packages, for their versions. */
const PACKAGES = {
  realm: join(HERE, '..'),
  wllama: join(MODULES, '@wllama/wllama'),
  flare: join(MODULES, '@sauravpanda/flare'),
}
/** What is served, by the first part of its path. */
const FOLDERS = {
  browser: join(HERE, 'browser'),
  realm: process.env.REALM_BROWSER_PACKAGE ?? join(HERE, '..', 'dist', 'browser'),
  wllama: join(MODULES, '@wllama/wllama/esm'),
  flare: join(MODULES, '@sauravpanda/flare/pkg'),
}
/** Lets pages have memory that threads share. */
const ISOLATED = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
}
const PAGE =
  '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module" src="/browser/page.mjs"></script>'

const { values } = parseArgs({
  options: {
    ...RUN_OPTIONS,
    model: { type: 'string', default: 'llama-110m:Q8_0' },
    threads: { type: 'string', default: '1' },
    prompt: { type: 'string', default: '128' },
    engines: { type: 'string', default: 'realm,wllama,flare' },
  },
})
const { path, threads, nRounds, decodeTokens } = await readRunOptions(values)
const promptTokens = count('prompt', values.prompt)
const engines = values.engines.split(',')
const job = { threads, promptLetters: promptTokens, decodeTokens }

const server = await serve()
const browser = await launchChromium()
try {
  printHeading(path, `Chromium ${browser.version()}, ${threads} threads, ${nRounds} rounds`)
  const samples = Object.fromEntries(engines.map((name) => [name, []]))
  for (let round = 0; round < nRounds; round++) {
    for (const name of round % 2 === 0 ? engines : engines.toReversed()) {
      const sample = await measure(name)
      samples[name].push(sample)
      printSample(name, sample)
    }
  }
  const model = basename(path, '.gguf')
  const summaries = engines.map((name) => [
    name,
    { version: versionOf(name), ...summarise(samples[name]) },
  ])
  const result = {
    run: { bench: 'browser', model, threads, promptTokens, decodeTokens, engines },
    date: today(),
    browser: `Chromium ${browser.version()}`,
    rounds: nRounds,
    results: Object.fromEntries(summaries),
  }
  printTable(tableOf(result))
  if (values.record) console.log(`recorded in ${addToRecord(result)}`)
} finally {
  await browser.close()
  server.close()
}

/** One engine in a page of its own. */
async function measure(name) {
  const page = await (await browser.newContext()).newPage()
  const session = await browser.newBrowserCDPSession()
  await page.exposeFunction('cpuSeconds', async () => {
    const { processInfo } = await session.send('SystemInfo.getProcessInfo')
    const renderers = processInfo.filter(({ type }) => type === 'renderer')
    return renderers.reduce((sum, { cpuTime }) => sum + cpuTime, 0)
  })
  await page.goto(`${server.origin}/`)
  await page.waitForFunction(() => window.measure !== undefined)
  try {
    return await page.evaluate(([name, job]) => window.measure(name, job), [name, job])
  } finally {
    await page.context().close()
    await session.detach()
  }
}

function versionOf(name) {
  return JSON.parse(readFileSync(join(PACKAGES[name], 'package.json'), 'utf8')).version
}

/** The page at `/`, the model at `/model.gguf`, each package in a folder of its own. */
async function serve() {
  const server = await serveFiles((pathname) => {
    const [, folder, ...rest] = pathname.split('/')
    return FOLDERS[folder] && inFolder(FOLDERS[folder], ISOLATED)(rest.join('/'))
  })
  const put = (pathname, bytes, type) =>
    server.files.set(pathname, { bytes: Buffer.from(bytes), type, headers: ISOLATED })
  put('/', PAGE, 'text/html')
  put('/model.gguf', readFileSync(path))
  // As published it has a comment inside a comment, which is a syntax error.
  const flare = readFileSync(join(FOLDERS.flare, 'flare_web.js'), 'utf8')
  put('/flare/flare_web.js', flare.replace('/* done */', ''), 'text/javascript')
  return server
}
