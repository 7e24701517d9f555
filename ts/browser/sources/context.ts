/**
 * What opening a source may use, with its defaults.
 */

import type { DownloadContext } from '../../download/context.js'
import { Currency } from '../../download/currency.js'
import { DEFAULT_POLICY, type FetchPolicy } from '../../download/requests.js'
import { DEFAULT_HUB } from '../../hub.js'
import type { FetchContext } from '../../model-source.js'
import type { LogEntry } from '../../reports.js'
import { browserNetwork } from './network.js'

/** Options of `openSource`. */
export interface SourceOptions extends Partial<FetchContext> {
  /** Told what was decided, such as that a download cannot be kept. */
  logger?: ((entry: LogEntry) => void) | undefined
  /** Model hub that `hf:` names lead to. Default https://huggingface.co. */
  hubEndpoint?: string | undefined
  /** Sent to the hub, for models that are not public. */
  hubToken?: string | undefined
  /** Headers for the server that was named. */
  headers?: Readonly<Record<string, string>> | undefined
  /** How downloads behave, where that is not to be the default. */
  policy?: Partial<FetchPolicy> | undefined
}

export function toContext(options: SourceOptions): DownloadContext {
  return {
    onProgress: options.onProgress,
    signal: options.signal,
    logger: options.logger,
    hub: { endpoint: options.hubEndpoint ?? DEFAULT_HUB, token: options.hubToken },
    headers: options.headers,
    policy: { ...DEFAULT_POLICY, ...options.policy },
    platform: browserNetwork,
    currency: new Currency(options.revalidate ?? 0),
  }
}
