/**
 * Fetches model files into a folder of the user's cache, where the engine can
 * map them. A file is kept with its server's ETag and fetched again only when
 * that changes.
 */

import { createWriteStream } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  diskSpace,
  hubOfEnvironment,
  modelFolder,
  readRecord,
  recordPath,
  writeRecord,
} from './disk-cache.js'
import { RealmError } from './errors.js'
import {
  chooseFile,
  type HubName,
  hubFileUrl,
  hubListingUrl,
  isOfHub,
  parseHubName,
  readListing,
} from './hub.js'
import { aborted } from './model-source.js'
import type { NodeFetchContext } from './source.js'
import { partUrls } from './split-file.js'

/**
 * Fetches the file at `url`, and the other parts of a split file.
 * @returns the path of the (first) file
 * @throws RealmError DOWNLOAD_FAILED, STORAGE_FULL, ABORTED
 */
export async function download(url: string, context: NodeFetchContext): Promise<string> {
  const first = new URL(url)
  const folder = modelFolder(context.cacheDirectory, first)
  await mkdir(folder, { recursive: true })
  const urls = partUrls(first)
  const paths: string[] = []
  for (const [i, part] of urls.entries()) {
    const path = join(folder, fileName(part))
    await downloadFile(part, path, urls.length, context, (share, counts) =>
      context.onProgress?.({ stage: 'download', fraction: (i + share) / urls.length, ...counts }),
    )
    paths.push(path)
  }
  return paths[0] as string
}

/**
 * Fetches from the model hub: `hf:owner/repo[/file][@revision]`. Without a file the repository's
 * only GGUF is taken, else its Q4_K_M, else its Q8_0. Options or the environment's
 * HF_ENDPOINT name another hub, and HF_TOKEN what is sent to it.
 */
export async function fromHub(source: string, context: NodeFetchContext): Promise<string> {
  const name = parseHubName(source)
  const hub = context.hubEndpoint ?? hubOfEnvironment()
  const file = name.file ?? (await chosenFile(hub, name, context))
  return download(hubFileUrl(hub, name, file), context)
}

async function chosenFile(hub: string, name: HubName, context: NodeFetchContext): Promise<string> {
  const response = await request(hubListingUrl(hub, name), {}, context)
  return chooseFile(name.repo, readListing(await response.json().catch(() => [])))
}

/** Fetches one file unless the cached one is what the server still has. */
async function downloadFile(
  url: URL,
  path: string,
  parts: number,
  context: NodeFetchContext,
  onProgress: (share: number, counts: { receivedBytes: number; totalBytes?: number }) => void,
): Promise<void> {
  const { signal } = context
  const record = { url: url.href, parts }
  const cached = (await readRecord(path))?.etag ?? null
  const isCached = cached !== null && (await stat(path).catch(() => undefined)) !== undefined
  const response = await request(url, isCached ? { 'if-none-match': cached } : {}, context).catch(
    (error: RealmError) => {
      // What is there can be used while the server cannot be reached.
      if (isCached && isUnreachable(error)) return undefined
      throw error
    },
  )
  if (response === undefined || response.status === 304)
    return writeRecord(path, { ...record, etag: cached })
  const totalBytes = Number(response.headers.get('content-length') ?? 0)
  const partial = `${path}.${process.pid}-${Date.now()}.part`
  let receivedBytes = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      receivedBytes += chunk.byteLength
      if (totalBytes > 0)
        onProgress(Math.min(1, receivedBytes / totalBytes), { receivedBytes, totalBytes })
      else onProgress(0, { receivedBytes })
      done(null, chunk)
    },
  })
  try {
    if (response.body === null) throw new Error('the answer has no body')
    await pipeline(Readable.fromWeb(response.body), count, createWriteStream(partial), { signal })
    if (totalBytes > 0 && receivedBytes !== totalBytes)
      throw new Error(`expected ${totalBytes} bytes, received ${receivedBytes}`)
    await rm(recordPath(path), { force: true })
    await rename(partial, path)
    await writeRecord(path, { ...record, etag: response.headers.get('etag') })
  } catch (error) {
    await rm(partial, { force: true })
    throw await failure(url, error, signal, { folder: dirname(path), totalBytes })
  }
}

async function request(
  url: URL,
  headers: Record<string, string>,
  { hubEndpoint, hubToken, signal }: NodeFetchContext,
): Promise<Response> {
  const token = hubToken ?? process.env.HF_TOKEN
  const forHub = token !== undefined && isOfHub(hubEndpoint ?? hubOfEnvironment(), url)
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
    throw await failure(url, error, signal)
  }
  if (response.ok || response.status === 304) return response
  await response.body?.cancel()
  throw new RealmError(
    'DOWNLOAD_FAILED',
    `${url.href}: the server answered ${response.status} ${response.statusText}`.trim(),
  )
}

async function failure(
  url: URL,
  error: unknown,
  signal: AbortSignal | undefined,
  target?: { folder: string; totalBytes: number },
): Promise<RealmError> {
  if (signal?.aborted) return aborted(error)
  const cause = error instanceof Error ? (error.cause ?? error) : error
  const reason = cause instanceof Error ? cause.message : String(cause)
  if (target !== undefined && (cause as NodeJS.ErrnoException).code === 'ENOSPC') {
    const { usage, quota } = await diskSpace(target.folder)
    const text = `${target.totalBytes} bytes are needed, ${target.folder} has ${quota - usage} left`
    return new RealmError('STORAGE_FULL', `${url.href}: ${text}`, { cause: error })
  }
  return new RealmError('DOWNLOAD_FAILED', `${url.href}: ${reason}`, { cause: error })
}

/** Whether an error of `request` is that nobody answered. */
function isUnreachable({ code, cause }: RealmError): boolean {
  return code === 'DOWNLOAD_FAILED' && cause !== undefined
}

/** A name that is safe on every file system, whatever the server calls the file. */
function fileName(url: URL): string {
  return basename(url.pathname).replace(/[^\w.-]|^\.+/g, '_') || 'model.gguf'
}
