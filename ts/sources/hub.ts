/**
 * Names of models on a model hub, and which of a repository's files is meant. Knows addresses and
 * answers; asking is done by the download of each platform.
 *
 * Addresses and fields: https://huggingface.co/docs/hub/api
 */

import { RealmError } from '../errors.js'
import { invalid } from '../validate.js'
import { isModelFile } from './split-file.js'

/** Where names beginning with `hf:` lead unless told otherwise. */
export const DEFAULT_HUB = 'https://huggingface.co'

/** The file types to take from a repository that has several, best first. */
const PREFERRED = [/q4_k_m/i, /q8_0/i]

/** Words in the names of .gguf files that are no models by themselves, but parts beside them. */
const NO_MODEL = /(^|[^a-z])(mmproj|imatrix|lora|adapter|mtp)([^a-z]|$)/i

/** Half of a pair, which no address can have. */
const HALF = /\p{Surrogate}/u

/** `hf:owner/repo[/file][@revision]`, taken apart. */
export interface HubName {
  repo: string
  file: string | undefined
  revision: string
}

/** A file of a repository. Files in large file storage have a checksum. */
export interface HubFile {
  path: string
  sizeBytes: number | undefined
  /** SHA-256 in hexadecimal. */
  sha256: string | undefined
}

/** @throws RealmError INVALID_ARGUMENT  the name has another form */
export function parseHubName(source: string): HubName {
  const parts = /^hf:([\w.-]+\/[\w.-]+)(?:\/([^@]+))?(?:@(.+))?$/.exec(source)
  const [, repo, file, revision = 'main'] = parts ?? []
  const names = [...(repo?.split('/') ?? []), ...(file?.split('/') ?? []), revision]
  // Such names would lead out of the repository, or nowhere.
  const isNone = (name: string) => ['', '.', '..'].includes(name) || HALF.test(name)
  if (repo === undefined || names.some(isNone))
    throw invalid('model source', 'hf:owner/repo[/file][@revision]', source)
  return { repo, file, revision }
}

/** Where a file of a repository is fetched from. */
export function hubFileUrl(hub: string, { repo, revision }: HubName, file: string): string {
  const path = file.split('/').map(encodeURIComponent).join('/')
  return `${trimmed(hub)}/${repo}/resolve/${encodeURIComponent(revision)}/${path}`
}

/** Where the list of a repository's files is. */
export function hubListingUrl(hub: string, { repo, revision }: HubName): URL {
  const url = new URL(`${trimmed(hub)}/api/models/${repo}/tree/${encodeURIComponent(revision)}`)
  url.searchParams.set('recursive', 'true')
  return url
}

/** Whether an address belongs to the hub, so that the hub's token may be sent to it. */
export function isOfHub(hub: string, url: URL): boolean {
  return url.href.startsWith(`${trimmed(hub)}/`)
}

/** Whether an address of the hub names a commit, of which a file never changes. */
export function isPinned(hub: string, url: URL): boolean {
  return isOfHub(hub, url) && /\/resolve\/[0-9a-f]{40}\//.test(url.pathname)
}

/** Reads a hub's list of files; what is not a list is an empty one. */
export function readListing(listing: unknown): HubFile[] {
  if (!Array.isArray(listing)) return []
  return listing.flatMap((entry: Record<string, unknown> | null) => {
    const { path, size, lfs } = entry ?? {}
    if (typeof path !== 'string' || HALF.test(path)) return []
    const oid = (lfs as { oid?: unknown } | undefined)?.oid
    return {
      path,
      sizeBytes: typeof size === 'number' ? size : undefined,
      sha256: typeof oid === 'string' && /^[0-9a-f]{64}$/.test(oid) ? oid : undefined,
    }
  })
}

/**
 * The model among a repository's files: the only GGUF, else its Q4_K_M, else its Q8_0. Projectors of
 * images, importance matrices, adapters and draft heads do not count.
 * @throws RealmError DOWNLOAD_FAILED  there is none, or none that stands out
 */
export function chooseFile(repo: string, listing: readonly HubFile[]): string {
  const isWanted = (path: string) =>
    isModelFile(path) && !NO_MODEL.test(path.slice(path.lastIndexOf('/') + 1))
  const files = listing.map(({ path }) => path).filter(isWanted)
  const [only] = files
  if (files.length === 1 && only !== undefined) return only
  for (const kind of PREFERRED) {
    const match = files.find((path) => kind.test(path))
    if (match !== undefined) return match
  }
  throw new RealmError(
    'DOWNLOAD_FAILED',
    files.length === 0
      ? `${repo} has no .gguf file that is a model; name one if it has another`
      : `${repo} has several .gguf files; name one of: ${files.join(', ')}`,
  )
}

function trimmed(hub: string): string {
  return hub.replace(/\/+$/, '')
}
