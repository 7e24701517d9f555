/**
 * `npm run bench:browser`: Realm, wllama and flare in one Chromium, on the same files and texts:
 * how fast they are, what a second thread brings, and what repeated loads leave behind. Options and
 * columns: README.md here.
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
import { printHeading, printSample, printTable, scalingRows, tableOf } from './table.mjs'

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
    model: { type: 'string', default: 'llama-110m:Q8_0,llama-110m:Q4_0' },
    threads: { type: 'string', default: '1,2' },
    prompt: { type: 'string', default: '128' },
    engines: { type: 'string', default: 'realm,wllama,flare' },
    loads: { type: 'string', default: '20' },
  },
})
const runs = []
for (const model of values.model.split(','))
  for (const threads of values.threads.split(','))
    runs.push(await readRunOptions({ ...values, model, threads }))
const promptTokens = count('prompt', values.prompt)
const nLoads = count('loads', values.loads)

const server = await serve()
const browser = await launchChromium()
try {
  const rates = []
  for (const run of runs) rates.push(await measureRates(run))
  for (const [threads, one] of pairsOf(rates)) printTable(scalingRows(one, threads))
  for (const path of new Set(runs.map((run) => run.path))) await measureLoads(path)
} finally {
  await browser.close()
  server.close()
}

/** Speeds of all engines with one file and a number of threads, round by round. */
async function measureRates({ path, threads, nRounds, decodeTokens }) {
  printHeading(path, `Chromium ${browser.version()}, ${threads} threads, ${nRounds} rounds`)
  const engines = enginesFor(threads)
  const job = { threads, promptLetters: promptTokens, decodeTokens }
  const samples = Object.fromEntries(engines.map((name) => [name, []]))
  const failed = new Set()
  for (let round = 0; round < nRounds; round++) {
    for (const name of round % 2 === 0 ? engines : engines.toReversed()) {
      if (failed.has(name)) continue
      const sample = await inPage(path, name, 'measure', job)
      if (sample === undefined) failed.add(name)
      else printSample(name, sample)
      samples[name].push(sample)
    }
  }
  const model = basename(path, '.gguf')
  const run = { bench: 'browser', model, threads, promptTokens, decodeTokens, engines }
  const figuresOf = (name) => (failed.has(name) ? {} : summarise(samples[name]))
  const result = resultOf(run, { rounds: nRounds, results: resultsOf(engines, figuresOf) })
  show(result)
  return result
}

/** What each engine still holds after loading and disposing of a model again and again. */
async function measureLoads(path) {
  const engines = enginesFor(1)
  const residents = {}
  for (const name of engines)
    residents[name] = await inPage(path, name, 'measureLoads', { threads: 1, nLoads })
  const model = basename(path, '.gguf')
  const run = { bench: 'browser-loads', model, threads: 1, nLoads, engines }
  const figuresOf = (name) => ({ residentBytes: residents[name] })
  show(resultOf(run, { results: resultsOf(engines, figuresOf) }))
}

/** flare has one thread. */
function enginesFor(threads) {
  return values.engines.split(',').filter((name) => threads === 1 || name !== 'flare')
}

/** What all results say. */
function resultOf(run, rest) {
  return { run, date: today(), browser: `Chromium ${browser.version()}`, ...rest }
}

function resultsOf(engines, figuresOf) {
  return Object.fromEntries(
    engines.map((name) => [name, { version: versionOf(name), ...figuresOf(name) }]),
  )
}

function show(result) {
  printTable(tableOf(result))
  if (values.record) console.log(`recorded in ${addToRecord(result)}`)
}

/** Results of the same file with several threads, each beside that with one. */
function pairsOf(results) {
  return results.flatMap((result) => {
    const { model, threads } = result.run
    const one = results.find(({ run }) => run.model === model && run.threads === 1)
    return threads > 1 && one !== undefined ? [[result, one]] : []
  })
}

/**
 * Calls a function of page.mjs for an engine, in a page of its own.
 * @returns its result; undefined where the engine failed, which is said
 */
async function inPage(path, name, measurement, job) {
  server.files.set('/model.gguf', { bytes: readFileSync(path), headers: ISOLATED })
  const page = await (await browser.newContext()).newPage()
  const session = await browser.newBrowserCDPSession()
  const renderers = async () => {
    const { processInfo } = await session.send('SystemInfo.getProcessInfo')
    return processInfo.filter(({ type }) => type === 'renderer')
  }
  await page.exposeFunction('cpuSeconds', async () =>
    (await renderers()).reduce((sum, { cpuTime }) => sum + cpuTime, 0),
  )
  await page.exposeFunction('residentBytes', async () => {
    await page.requestGC()
    return (await renderers()).reduce((sum, { id }) => sum + residentBytesOf(id), 0)
  })
  await page.goto(`${server.origin}/`)
  await page.waitForFunction(() => window.measure !== undefined)
  try {
    return await page.evaluate(
      ([measurement, name, job]) => window[measurement](name, job),
      [measurement, name, job],
    )
  } catch (error) {
    console.log(`${name} failed: ${error.message.split('\n')[0]}`)
    return undefined
  } finally {
    await page.context().close()
    await session.detach()
  }
}

/** Of a process, as Linux tells. */
function residentBytesOf(pid) {
  const [, kilobytes] = /^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
  return kilobytes * 1024
}

function versionOf(name) {
  return JSON.parse(readFileSync(join(PACKAGES[name], 'package.json'), 'utf8')).version
}

/** The page at `/`, each package in a folder of its own. */
async function serve() {
  const server = await serveFiles((pathname) => {
    const [, folder, ...rest] = pathname.split('/')
    return FOLDERS[folder] && inFolder(FOLDERS[folder], ISOLATED)(rest.join('/'))
  })
  const put = (pathname, bytes, type) =>
    server.files.set(pathname, { bytes: Buffer.from(bytes), type, headers: ISOLATED })
  put('/', PAGE, 'text/html')
  // As published it has a comment inside a comment, which is a syntax error.
  const flare = readFileSync(join(FOLDERS.flare, 'flare_web.js'), 'utf8')
  put('/flare/flare_web.js', flare.replace('/* done */', ''), 'text/javascript')
  return server
}
