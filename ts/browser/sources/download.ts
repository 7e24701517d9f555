/**
 * Downloads in a browser: kept in the origin's private file system, or in memory where there is
 * none.
 */

import type { DownloadContext } from '../../download/context.js'
import {
  download as downloadTo,
  fetchPart,
  type Opener,
  openAll,
  partsOf,
  type Wanted,
} from '../../download/download.js'
import { findOnHub } from '../../download/find-on-hub.js'
import { DownloadProgress } from '../../download/progress.js'
import type { ModelFolder } from '../../download/storage.js'
import { shownUrl } from '../../sources/url.js'
import { BlobStore } from './blob-store.js'
import { type ByteSource, blobSource, handleSource } from './byte-source.js'
import { lock, readerLock } from './locks.js'
import { type OriginFolder, originStorage } from './opfs.js'

/** Fetches a model, and the other parts of a split file. */
export async function download(wanted: Wanted, context: DownloadContext): Promise<ByteSource[]> {
  const storage = await originStorage()
  if (storage !== undefined) return downloadTo(wanted, storage, stored, context)
  context.logger?.({
    level: 'warn',
    message: `${shownUrl(wanted.url)}: this browser has no private file system here; the download is not kept`,
  })
  const parts = partsOf(wanted)
  const progress = new DownloadProgress(parts.length, context.onProgress)
  return openAll(parts, stored, async (part) => {
    const store = new BlobStore(context.policy.pieceBytes)
    await fetchPart(part, store, context, progress)
    const source = store.open()
    progress.endPart(source.size)
    return source
  })
}

/** Fetches from a model hub: `hf:owner/repo[/file][@revision]`. */
export async function fromHub(source: string, context: DownloadContext): Promise<ByteSource[]> {
  return download(await findOnHub(source, await originStorage(), context), context)
}

/** Files are read under a lock, so that nobody deletes them meanwhile. */
const stored: Opener<ByteSource> = {
  async open(folder: ModelFolder, file: string) {
    const release = await lock(readerLock(folder.name, file), 'shared')
    try {
      const entry = await (folder as OriginFolder).handle.getFileHandle(file)
      const handle = await openForReading(entry)
      if (handle !== undefined) return handleSource(handle, release)
      return blobSource(await entry.getFile(), release)
    } catch (error) {
      release()
      throw error
    }
  },
  close: (source) => source.close(),
}

/**
 * An open handle for reading, or undefined where the browser gives a file to one reader alone
 * and somebody else has it: its Blob can be read all the same.
 */
async function openForReading(
  entry: FileSystemFileHandle,
): Promise<FileSystemSyncAccessHandle | undefined> {
  try {
    // `mode` is of the standard, but not of every browser, which then ignores it.
    const open = entry.createSyncAccessHandle as (options: {
      mode: 'read-only'
    }) => Promise<FileSystemSyncAccessHandle>
    return await open.call(entry, { mode: 'read-only' })
  } catch {
    return undefined
  }
}
