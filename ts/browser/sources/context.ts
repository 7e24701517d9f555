/**
 * What opening a source may use, with its defaults.
 */

import type { HostedSource } from '../../binding.js'
import type { DownloadContext } from '../../download/context.js'
import { Currency } from '../../download/currency.js'
import { DEFAULT_POLICY, type FetchPolicy } from '../../download/requests.js'
import type { LogEntry } from '../../reports.js'
import { DEFAULT_HUB } from '../../sources/hub.js'
import type { FetchContext } from '../../sources/model-source.js'
import { browserNetwork } from './network.js'

/** Options of `openSource`. */
export interface SourceOptions extends Partial<Omit<FetchContext, 'revalidate'>> {
  /** Told what was decided, such as that a download cannot be kept. */
  logger?: ((entry: LogEntry) => void) | undefined
  /** How downloads behave, where that is not to be the default. */
  policy?: Partial<FetchPolicy> | undefined
}

/** @param source  what the page said of the server */
export function toContext(source: HostedSource, options: SourceOptions): DownloadContext {
  return {
    onProgress: options.onProgress,
    signal: options.signal,
    logger: options.logger,
    hub: { endpoint: source.hubEndpoint ?? DEFAULT_HUB, token: source.hubToken },
    headers: source.headers,
    policy: { ...DEFAULT_POLICY, ...options.policy },
    platform: browserNetwork,
    currency: new Currency(source.revalidate ?? 0),
  }
}
