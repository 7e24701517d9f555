/** What the model is and how it runs, in a dialog. */

import { type ModelInfo, Realm } from '@realm-ai/realm'
import { byId, make } from './dom.js'
import { formatBytes, formatCount, formatSeconds } from './format.js'

/** Fills the header and the dialog. */
export async function showDetails(name: string, info: ModelInfo): Promise<void> {
  const others = (await Realm.backends()).filter((backend) => backend.name !== info.backend)
  byId('model-name').textContent = name
  byId('model-backend').textContent = info.backend
  byId('details-title').textContent = info.name ?? name
  const rows: [string, string][] = [
    ['Runs on', info.backend],
    ['Why', info.backendReason],
    ...others.map(({ name, description }): [string, string] => [`Not on ${name}`, description]),
    [
      'Memory',
      `${formatBytes(info.weightBytes)} weights, ${formatBytes(info.kvCacheBytes)} context`,
    ],
    ['Context', `${info.contextLength} of ${info.trainedContextLength} tokens`],
    ['Parameters', `${formatCount(info.parameterCount)}, ${info.architecture}`],
    ['File', `${formatBytes(info.fileBytes)}${info.fileType === null ? '' : `, ${info.fileType}`}`],
    ['Threads', String(info.threads)],
    ['Loaded in', formatSeconds(info.loadMs / 1000)],
  ]
  byId('details-list').replaceChildren(
    ...rows.flatMap(([term, text]) => [make('dt', '', term), make('dd', '', text)]),
  )
}

/** Opens the dialog from the header. */
export function setUpDetails(): void {
  const dialog = byId<HTMLDialogElement>('details')
  byId('details-button').addEventListener('click', () => dialog.showModal())
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close()
  })
}
