/**
 * What callers are told while something goes on.
 */

/** A line of what the engine decided, or of what went wrong where no call waits for it. */
export interface LogEntry {
  /** 'info': decided so; 'warn': works, though maybe not as intended; 'error': was not done. */
  level: 'info' | 'warn' | 'error'
  message: string
}

/** How far a load has come. */
export interface LoadProgress {
  stage: 'download' | 'load'
  /** Share of this stage that is done, 0 to 1; 0 while a download's size is unknown. */
  fraction: number
  /** Bytes that are there so far; only while downloading. */
  receivedBytes?: number
  /** Bytes of the file that is being downloaded, once the server has said. */
  totalBytes?: number
}
