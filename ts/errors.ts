/**
 * The one error class of the package. Programs match `code`; `message` is for people.
 */

/** What went wrong. The same names in Node and in browsers. */
export type RealmErrorCode =
  /** The model's source does not exist. */
  | 'MODEL_NOT_FOUND'
  /** The file exists but could not be read. */
  | 'MODEL_UNREADABLE'
  /** The file contradicts itself or the format. */
  | 'MODEL_INVALID'
  /** The file is sound but needs something that is not there, such as an unknown architecture. */
  | 'MODEL_UNSUPPORTED'
  /** The wanted backend, or the engine itself, does not work here. */
  | 'BACKEND_UNAVAILABLE'
  /** The device failed while it was in use; models on it have to be loaded again. */
  | 'DEVICE_LOST'
  /** After a defect or a failing device the model cannot go on; it must be loaded again. */
  | 'MODEL_LOST'
  /** An array has the wrong number of values. */
  | 'SHAPE_MISMATCH'
  /** No free page in the KV cache, or no free sequence. */
  | 'KV_EXHAUSTED'
  /** Memory could not be had, or a limit forbids it. */
  | 'OUT_OF_MEMORY'
  /** Stopped by an AbortSignal, or by an `onProgress` that threw. */
  | 'ABORTED'
  /** An argument has the wrong type or is out of its range. */
  | 'INVALID_ARGUMENT'
  /** The object was disposed of. */
  | 'DISPOSED'
  /** A source on the network could not be fetched. */
  | 'DOWNLOAD_FAILED'
  /** No room on the disk, or none that a browser grants. */
  | 'STORAGE_FULL'
  /** A cached model cannot be deleted or replaced, since it is loaded or being downloaded. */
  | 'IN_USE'
  /** A chat template is missing, does not parse or raised an error. */
  | 'TEMPLATE_ERROR'
  /** A file could not be written. */
  | 'WRITE_FAILED'
  /** A defect of the engine, caught before it could do harm. */
  | 'INTERNAL'

/** All of them: the compiler sees to it that none is missing. */
const CODES: Readonly<Record<RealmErrorCode, true>> = {
  MODEL_NOT_FOUND: true,
  MODEL_UNREADABLE: true,
  MODEL_INVALID: true,
  MODEL_UNSUPPORTED: true,
  BACKEND_UNAVAILABLE: true,
  DEVICE_LOST: true,
  MODEL_LOST: true,
  SHAPE_MISMATCH: true,
  KV_EXHAUSTED: true,
  OUT_OF_MEMORY: true,
  ABORTED: true,
  INVALID_ARGUMENT: true,
  DISPOSED: true,
  DOWNLOAD_FAILED: true,
  STORAGE_FULL: true,
  IN_USE: true,
  TEMPLATE_ERROR: true,
  WRITE_FAILED: true,
  INTERNAL: true,
}

/** Every error that this package throws or rejects with. */
export class RealmError extends Error {
  override readonly name = 'RealmError'
  /** Stable name of what went wrong. */
  readonly code: RealmErrorCode

  constructor(code: RealmErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }

  /**
   * Gives whatever the engine threw its public form; an error without a known code is INTERNAL.
   * @internal
   */
  static from(error: unknown): RealmError {
    if (error instanceof RealmError) return error
    if (!(error instanceof Error))
      return new RealmError('INTERNAL', messageOf(error), { cause: error })
    const code = (error as { code?: unknown }).code
    const isKnown = typeof code === 'string' && Object.hasOwn(CODES, code)
    return new RealmError(isKnown ? (code as RealmErrorCode) : 'INTERNAL', error.message, {
      cause: error,
    })
  }
}

/** What a thrown value says, whatever it is. Never throws. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error)
  } catch {
    return 'a value that cannot be shown'
  }
}

/** Runs a call of the engine so that what it throws is a RealmError. */
export function guarded<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw RealmError.from(error)
  }
}

/** Runs an asynchronous call of the engine so that what it rejects with is a RealmError. */
export async function guardedAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw RealmError.from(error)
  }
}
