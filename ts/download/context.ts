/**
 * What a download may use: what the caller wants, and what its platform has.
 */

import type { LogEntry } from '../reports.js'
import type { FetchContext } from '../sources/model-source.js'
import type { Hash } from './checksum.js'
import type { Currency } from './currency.js'
import type { FetchPolicy, Hub } from './requests.js'

/** What is different between Node and browsers. */
export interface NetworkPlatform {
  /** `fetch`; where the platform shows redirections, with their `x-linked-etag` in the answer. */
  readonly fetch: (url: URL, init: RequestInit) => Promise<Response>
  /** Whether `If-Range` may be sent: a page must ask other origins first, and few allow it. */
  readonly hasConditionalRanges: boolean
  /** A SHA-256 to be fed. */
  readonly createHash: () => Hash
}

/** What a download is told. */
export interface DownloadContext extends FetchContext {
  /** Told what was decided, such as that a download cannot be kept. */
  logger: ((entry: LogEntry) => void) | undefined
  hub: Hub
  /** Headers for the server that was named. */
  headers: Readonly<Record<string, string>> | undefined
  policy: FetchPolicy
  platform: NetworkPlatform
  /** When servers are asked whether they have another version of what is stored. */
  currency: Currency
}
