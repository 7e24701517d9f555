/**
 * What a name of a hub leads to: a file of a repository.
 */

import { namedBy } from '../cache.js'
import {
  chooseFile,
  type HubFile,
  hubFileUrl,
  hubListingUrl,
  isPinned,
  parseHubName,
  readListing,
} from '../sources/hub.js'
import type { DownloadContext } from './context.js'
import type { Wanted } from './download.js'
import { listStored, type StoredModel } from './model-cache.js'
import { firstAnswer, readJson, request } from './requests.js'
import type { ModelStorage } from './storage.js'

/**
 * What a name of the hub means: `hf:owner/repo[/file][@revision]`. Without a file the repository's
 * only model is taken, else its Q4_K_M, else its Q8_0. A repository is not asked for its list where
 * that cannot matter, or need not be known: the model is here.
 * @throws RealmError DOWNLOAD_FAILED, ABORTED
 */
export async function findOnHub(
  source: string,
  storage: ModelStorage | undefined,
  context: DownloadContext,
): Promise<Wanted> {
  const name = parseHubName(source)
  const { signal, hub, policy, currency } = context
  const url = hubListingUrl(hub.endpoint, name)
  const kept = storage && (await keptModel(source, hub.endpoint, storage))
  const isDue = (model: StoredModel) =>
    !isPinned(hub.endpoint, model.url) && currency.isDue(model.confirmedAt)
  if (kept !== undefined && !isDue(kept)) return { url: kept.url }

  const urlOf = (path: string) => new URL(hubFileUrl(hub.endpoint, name, path))
  const wanted = (listing: readonly HubFile[]): Wanted => ({
    url: urlOf(name.file ?? chooseFile(name.repo, listing)),
    expectations: new Map(listing.map((entry) => [urlOf(entry.path).href, entry])),
  })
  const ask = async (within: Pick<DownloadContext, 'signal'> & { stallMs: number }) => {
    const options = { ...context, ...within }
    return wanted(readListing(await readJson(await request(url, {}, options), options)))
  }
  if (kept !== undefined) {
    const [answer] = await currency.ask([url], signal, (_, within) => ask(within))
    if (answer?.status === 'fulfilled') return answer.value
    if (signal?.aborted) throw answer?.reason
    return { url: kept.url }
  }
  // A file that is named can be had without the list.
  const isOptional = name.file !== undefined
  const patience = isOptional ? { ...policy, attempts: 1 } : policy
  const first = () => ask({ signal, stallMs: policy.stallMs })
  return firstAnswer(url, patience, signal, first).catch((error) => {
    if (!isOptional || signal?.aborted) throw error
    return wanted([])
  })
}

/** The model that a name of the hub means among those that are complete, if there is just one. */
async function keptModel(
  source: string,
  endpoint: string,
  storage: ModelStorage,
): Promise<StoredModel | undefined> {
  const isNamed = namedBy(source, endpoint)
  const models = await listStored(storage)
  const named = models.filter(
    ({ model }) => model.isComplete && model.cacheKey === undefined && isNamed(model.url),
  )
  return named.length === 1 ? named[0] : undefined
}
