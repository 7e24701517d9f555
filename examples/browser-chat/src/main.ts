/** A chat with a model that runs in this page: choose it, load it, talk to it. */

import { type Model, Realm, RealmError } from '@realm-ai/realm'
import { endChat, setUpChat, startChat } from './chat-view.js'
import { type Choice, setUpChoosing } from './choose-view.js'
import { setUpDetails, showDetails } from './details.js'
import { announce, byId } from './dom.js'
import { showLoading } from './loading-view.js'

type View = 'choose' | 'loading' | 'chat'

let realm: Promise<Realm> | undefined
let model: Model | undefined
let loading: AbortController | undefined
let latest: Choice | undefined

const choosing = setUpChoosing(load)
setUpChat()
setUpDetails()
byId('cancel-button').addEventListener('click', () => loading?.abort())
byId('change-button').addEventListener('click', () => showChoices())
byId('retry-button').addEventListener('click', () => {
  if (latest !== undefined) load(latest)
})
setUpOffline()
show('choose')

/** Loads what was chosen, then begins the chat; with an error, goes back and says why. */
async function load(choice: Choice): Promise<void> {
  if (loading !== undefined) return
  loading = new AbortController()
  latest = choice
  showError(undefined)
  show('loading')
  const onProgress = showLoading(choice.name)
  try {
    await unload()
    realm ??= Realm.create()
    const { signal } = loading
    const loaded = await (await realm).load(choice.source, { onProgress, signal })
    model = loaded
    await showDetails(choice.name, loaded.info)
    show('chat')
    await startChat(loaded)
    announce(`${choice.name} is ready`)
  } catch (error) {
    if (model === undefined) realm = undefined
    show('choose')
    showError(error)
  } finally {
    loading = undefined
  }
}

async function showChoices(): Promise<void> {
  showError(undefined)
  await unload()
  show('choose')
}

async function unload(): Promise<void> {
  await endChat()
  await model?.dispose()
  model = undefined
}

function show(view: View): void {
  document.body.dataset.view = view
  for (const part of document.querySelectorAll<HTMLElement>('[data-for]'))
    part.hidden = part.dataset.for !== view
  if (view === 'choose') choosing.refresh()
  if (view === 'loading') byId('cancel-button').focus()
}

/** What people can do about an error, by its code. */
const TITLES: Record<string, string> = {
  DOWNLOAD_FAILED: 'The model could not be downloaded',
  STORAGE_FULL: 'There is no room for the model',
  MODEL_INVALID: 'This is no sound GGUF file',
  MODEL_UNREADABLE: 'The file could not be read',
  MODEL_UNSUPPORTED: 'This model needs something that is not there',
  OUT_OF_MEMORY: 'The model does not fit into memory',
  BACKEND_UNAVAILABLE: 'The engine does not work in this browser',
}

/** Shows an error above the choices; a load that was cancelled is none. */
function showError(error: unknown): void {
  const code = error instanceof RealmError ? error.code : ''
  byId('error').hidden = error === undefined || code === 'ABORTED'
  byId('error-title').textContent = TITLES[code] ?? 'Something went wrong'
  byId('error-text').textContent = error instanceof Error ? error.message : String(error ?? '')
  if (!byId('error').hidden) byId('retry-button').focus()
}

/** The service worker keeps the page; the models are kept by Realm. */
function setUpOffline(): void {
  const note = byId('offline-note')
  const update = () => {
    note.hidden = navigator.onLine
  }
  addEventListener('online', update)
  addEventListener('offline', update)
  update()
  if (import.meta.env.PROD) keepPage(navigator.serviceWorker)
}

/** Starts the service worker, and tells it of the engine, which may be fetched before it is there. */
async function keepPage(container: ServiceWorkerContainer | undefined): Promise<void> {
  if (container === undefined) return
  await container.register('./service-worker.js')
  const { active } = await container.ready
  const observer = new PerformanceObserver((fetched) => {
    const engines = fetched.getEntries().filter(({ name }) => name.endsWith('.wasm'))
    if (engines.length > 0) active?.postMessage(engines.map(({ name }) => name))
  })
  observer.observe({ type: 'resource', buffered: true })
}
