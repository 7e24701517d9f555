/**
 * Fetches model files into a folder of the user's cache, where the engine can
 * map them. A file is kept with its server's ETag and fetched again only when
 * that changes.
 */

import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { RealmError } from './errors.js'
import type { FetchContext } from './source.js'
import { invalid } from './validate.js'

/** The file types to take from a repository that has several, best first. */
const PREFERRED = [/q4_k_m/i, /q8_0/i]

/** First part of a split file: name, number of digits, count. */
const FIRST_PART = /-00001-of-(\d{5})\.gguf$/

/**
 * Fetches the file at `url`, and the other parts of a split file.
 * @returns the path of the (first) file
 * @throws RealmError DOWNLOAD_FAILED, ABORTED
 */
export async function download(url: string, context: FetchContext): Promise<string> {
  const first = new URL(url)
  const folder = join(context.cacheDirectory ?? defaultCache(), hash(url))
  await mkdir(folder, { recursive: true })
  const urls = partsOf(first)
  const paths: string[] = []
  for (const [i, part] of urls.entries()) {
    paths.push(
      await downloadFile(part, join(folder, fileName(part)), context, (share, receivedBytes) =>
        context.onProgress?.({
          stage: 'download',
          fraction: (i + share) / urls.length,
          receivedBytes,
        }),
      ),
    )
  }
  return paths[0] as string
}

/**
 * Fetches from the model hub: `hf:owner/repo[/file][@revision]`. Without a file the repository's
 * only GGUF is taken, else its Q4_K_M, else its Q8_0. HF_ENDPOINT names another hub, HF_TOKEN is
 * sent to it.
 */
export async function fromHub(source: string, context: FetchContext): Promise<string> {
  const parts = /^hf:([\w.-]+\/[\w.-]+)(?:\/([^@]+))?(?:@(.+))?$/.exec(source)
  const [, repo, file, revision = 'main'] = parts ?? []
  if (repo === undefined) throw invalid('model source', 'hf:owner/repo[/file][@revision]', source)
  const hub = hubEndpoint()
  const chosen = file ?? (await chooseFile(hub, repo, revision, context.signal))
  return download(`${hub}/${repo}/resolve/${encodeURIComponent(revision)}/${chosen}`, context)
}

async function chooseFile(
  hub: string,
  repo: string,
  revision: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const url = new URL(`${hub}/api/models/${repo}/tree/${encodeURIComponent(revision)}`)
  url.searchParams.set('recursive', 'true')
  const response = await request(url, {}, signal)
  const listing = (await response.json().catch(() => [])) as { path?: unknown }[]
  const files = listing
    .map(({ path }) => path)
    .filter((path): path is string => typeof path === 'string' && isModelFile(path))
  const [only] = files
  if (files.length === 1 && only !== undefined) return only
  for (const kind of PREFERRED) {
    const match = files.find((path) => kind.test(path))
    if (match !== undefined) return match
  }
  throw new RealmError(
    'DOWNLOAD_FAILED',
    files.length === 0
      ? `${repo} has no .gguf file`
      : `${repo} has several .gguf files; name one of: ${files.join(', ')}`,
  )
}

/** Whether a repository's file is a model, or the first part of one. */
function isModelFile(path: string): boolean {
  return path.endsWith('.gguf') && (!/-\d{5}-of-\d{5}\.gguf$/.test(path) || FIRST_PART.test(path))
}

function partsOf(first: URL): URL[] {
  const count = Number(FIRST_PART.exec(first.pathname)?.[1] ?? 1)
  return Array.from({ length: count }, (_, i) => {
    const part = new URL(first)
    const number = String(i + 1).padStart(5, '0')
    part.pathname = first.pathname.replace(/-00001-of-(\d{5})\.gguf$/, `-${number}-of-$1.gguf`)
    return part
  })
}

/** Fetches one file unless the cached one is what the server still has. */
async function downloadFile(
  url: URL,
  path: string,
  { signal }: FetchContext,
  onProgress: (share: number, receivedBytes: number) => void,
): Promise<string> {
  const etagPath = `${path}.etag`
  const cached = await readFile(etagPath, 'utf8').catch(() => undefined)
  const isCached = cached !== undefined && (await stat(path).catch(() => undefined)) !== undefined
  const response = await request(url, isCached ? { 'if-none-match': cached } : {}, signal)
  if (response.status === 304) return path
  const totalBytes = Number(response.headers.get('content-length') ?? 0)
  const partial = `${path}.${process.pid}-${Date.now()}.part`
  let receivedBytes = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      receivedBytes += chunk.byteLength
      onProgress(totalBytes > 0 ? Math.min(1, receivedBytes / totalBytes) : 0, receivedBytes)
      done(null, chunk)
    },
  })
  try {
    if (response.body === null) throw new Error('the answer has no body')
    await pipeline(Readable.fromWeb(response.body), count, createWriteStream(partial), { signal })
    if (totalBytes > 0 && receivedBytes !== totalBytes)
      throw new Error(`expected ${totalBytes} bytes, received ${receivedBytes}`)
    await rm(etagPath, { force: true })
    await rename(partial, path)
    const etag = response.headers.get('etag')
    if (etag !== null) await writeFile(etagPath, etag)
  } catch (error) {
    await rm(partial, { force: true })
    throw failure(url, error, signal)
  }
  return path
}

async function request(
  url: URL,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const token = process.env.HF_TOKEN
  const forHub = token !== undefined && url.href.startsWith(`${hubEndpoint()}/`)
  let response: Response
  try {
    response = await fetch(url, {
      // Bytes as they are: a length that counts compressed ones would not match.
      headers: {
        'accept-encoding': 'identity',
        ...headers,
        ...(forHub && { authorization: `Bearer ${token}` }),
      },
      signal: signal ?? null,
    })
  } catch (error) {
    throw failure(url, error, signal)
  }
  if (response.ok || response.status === 304) return response
  await response.body?.cancel()
  throw new RealmError(
    'DOWNLOAD_FAILED',
    `${url.href}: the server answered ${response.status} ${response.statusText}`.trim(),
  )
}

function failure(url: URL, error: unknown, signal: AbortSignal | undefined): RealmError {
  if (signal?.aborted)
    return new RealmError('ABORTED', 'loading was stopped by its signal', { cause: error })
  const cause = error instanceof Error ? (error.cause ?? error) : error
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new RealmError('DOWNLOAD_FAILED', `${url.href}: ${reason}`, { cause: error })
}

function hubEndpoint(): string {
  return (process.env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '')
}

function defaultCache(): string {
  const { REALM_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  if (REALM_CACHE) return REALM_CACHE
  if (process.platform === 'win32')
    return join(LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'realm')
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'realm')
  return join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'realm')
}

/** A name that is safe on every file system, whatever the server calls the file. */
function fileName(url: URL): string {
  return basename(url.pathname).replace(/[^\w.-]|^\.+/g, '_') || 'model.gguf'
}

/** Name of a URL's folder. Parts of a split file share that of the first one. */
function hash(url: string): string {
  return createHash('sha256').update(url).digest('hex').slice(0, 24)
}
