/**
 * Bytes that can be read at any place without waiting: what the engine takes a model's weights
 * from. Only for dedicated workers, where browsers allow synchronous reads.
 */

import { RealmError } from '../../errors.js'

/** A file, or one part of a split file. */
export interface ByteSource {
  /** Bytes of the whole file. */
  readonly size: number
  /**
   * Reads synchronously. What is returned may be a view of memory: do not write to it.
   * @throws RealmError MODEL_UNREADABLE  the range is outside the file, or the browser refuses
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>
  /** Lets the file go; reads are refused from then on. Any number of calls. */
  close(): void
}

/** A Blob or File; `onClose` is called once. */
export function blobSource(blob: Blob, onClose: () => void = () => {}): ByteSource {
  const reader = new FileReaderSync()
  return checkedSource(blob.size, {
    read: (offset, length) =>
      new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset, offset + length))),
    close: onClose,
  })
}

/** A file of the origin's private file system, through its open handle. */
export function handleSource(handle: FileSystemSyncAccessHandle, onClose: () => void): ByteSource {
  return checkedSource(handle.getSize(), {
    read: (offset, length) => readHandle(handle, offset, length),
    close: () => {
      handle.close()
      onClose()
    },
  })
}

/** Reads from an open handle; fewer bytes than asked for when the file ends before. */
export function readHandle(
  handle: FileSystemSyncAccessHandle,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  return bytes.subarray(0, handle.read(bytes, { at: offset }))
}

/** Checks ranges and what came back, and closes once. */
function checkedSource(size: number, raw: Pick<ByteSource, 'read' | 'close'>): ByteSource {
  let isOpen = true
  return {
    size,
    read: (offset, length) => {
      if (!isOpen) throw unreadable('the file was closed')
      const isInside =
        Number.isSafeInteger(offset) &&
        Number.isSafeInteger(length) &&
        offset >= 0 &&
        length >= 0 &&
        offset + length <= size
      if (!isInside) throw unreadable(`bytes ${offset} + ${length} of a file of ${size}`)
      const bytes = attempt(() => raw.read(offset, length))
      if (bytes.byteLength === length) return bytes
      throw unreadable(`read ${bytes.byteLength} bytes at ${offset}, expected ${length}`)
    },
    close: () => {
      if (!isOpen) return
      isOpen = false
      raw.close()
    },
  }
}

function attempt<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw unreadable(error instanceof Error ? error.message : String(error), error)
  }
}

function unreadable(reason: string, cause?: unknown): RealmError {
  return new RealmError('MODEL_UNREADABLE', `the model's file cannot be read: ${reason}`, { cause })
}
