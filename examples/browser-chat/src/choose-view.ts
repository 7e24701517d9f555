/** The first view: where the model is to come from, and those that are on this device already. */

import { type CachedModel, Realm } from '@realm-ai/realm'
import { byId, make } from './dom.js'
import { formatAgo, formatBytes } from './format.js'

/** A model to load, and what to call it. */
export interface Choice {
  name: string
  source: string | File | File[]
}

/** The model that comes with the page. */
const TINY: Choice = {
  name: 'Tiny stories',
  source: new URL('models/realm-tiny-stories-Q8_0.gguf', document.baseURI).href,
}

/** Sets the view up; `onChoose` is called with what was chosen. */
export function setUpChoosing(onChoose: (choice: Choice) => void): { refresh(): Promise<void> } {
  const input = byId<HTMLInputElement>('url-input')
  byId('tiny-button').addEventListener('click', () => onChoose(TINY))
  byId('url-form').addEventListener('submit', (event) => {
    event.preventDefault()
    const problem = problemOf(input.value.trim())
    showProblem(problem)
    if (problem !== undefined) return
    onChoose(choiceOf(input.value.trim()))
    // What took long to download is not to go when the disk is short.
    Realm.cache.persist()
  })
  input.addEventListener('input', () => showProblem(undefined))
  byId<HTMLInputElement>('file-input').addEventListener('change', ({ target }) => {
    const { files } = target as HTMLInputElement
    if (files !== null && files.length > 0) onChoose(choiceOfFiles([...files]))
    ;(target as HTMLInputElement).value = ''
  })
  setUpDropping((files) => onChoose(choiceOfFiles(files)))
  return { refresh: () => refresh(onChoose) }
}

function choiceOf(source: string): Choice {
  return { name: source.startsWith('hf:') ? source.slice(3) : fileName(source), source }
}

function choiceOfFiles(files: File[]): Choice {
  const [first] = files
  return {
    name: first?.name ?? '',
    source: first !== undefined && files.length === 1 ? first : files,
  }
}

function fileName(url: string): string {
  return decodeURIComponent(new URL(url, document.baseURI).pathname.split('/').at(-1) ?? url)
}

function problemOf(source: string): string | undefined {
  if (/^hf:[\w.-]+\/[\w.-]+/.test(source)) return undefined
  if (/^https?:/.test(source) && URL.canParse(source)) return undefined
  return 'Write an address that begins with https://, or hf:owner/repo.'
}

function showProblem(problem: string | undefined): void {
  const text = byId('url-problem')
  text.textContent = problem ?? ''
  text.hidden = problem === undefined
  byId('url-input').setAttribute('aria-invalid', String(problem !== undefined))
}

function setUpDropping(onFiles: (files: File[]) => void): void {
  const cover = byId('drop')
  const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes('Files') ?? false
  addEventListener('dragenter', (event) => {
    if (hasFiles(event)) cover.hidden = false
  })
  addEventListener('dragover', (event) => event.preventDefault())
  addEventListener('dragleave', ({ relatedTarget }) => {
    if (relatedTarget === null) cover.hidden = true
  })
  addEventListener('drop', (event) => {
    event.preventDefault()
    cover.hidden = true
    const files = [...(event.dataTransfer?.files ?? [])]
    if (files.length > 0) onFiles(files)
  })
}

/** Shows what is kept, and how much room there is. */
async function refresh(onChoose: (choice: Choice) => void): Promise<void> {
  const models = await Realm.cache.list()
  const { usage, quota } = await Realm.cache.quota()
  byId('kept').hidden = models.length === 0
  byId('quota').textContent = `${formatBytes(usage)} used of ${formatBytes(quota)}`
  const problem = make('p', 'problem')
  problem.role = 'alert'
  byId('kept-list').replaceChildren(
    ...models.map((model) => describe(model, onChoose, problem)),
    problem,
  )
}

function describe(
  model: CachedModel,
  onChoose: (choice: Choice) => void,
  problem: HTMLElement,
): HTMLLIElement {
  const isTiny = model.url === TINY.source
  const name = isTiny ? TINY.name : fileName(model.url)
  const size = model.isComplete
    ? formatBytes(model.bytes)
    : `${formatBytes(model.bytes)} of ${model.totalBytes === null ? '?' : formatBytes(model.totalBytes)}, not complete`
  const load = make('button', '', model.isComplete ? 'Load' : 'Go on')
  load.type = 'button'
  load.setAttribute('aria-label', `${load.textContent}: ${name}`)
  load.addEventListener('click', () => onChoose({ name, source: model.url }))
  const remove = make('button', 'quiet', 'Delete')
  remove.type = 'button'
  remove.setAttribute('aria-label', `Delete: ${name}`)
  remove.addEventListener('click', async () => {
    try {
      await Realm.cache.delete(model.url)
      await refresh(onChoose)
    } catch (error) {
      problem.textContent = `${name} is not deleted: ${(error as Error).message}`
    }
  })
  const text = make(
    'div',
    'kept-text',
    make('strong', '', name),
    make('span', '', `${size} · used ${formatAgo(new Date(model.lastUsed))}`),
  )
  text.title = model.url
  return make('li', '', text, load, remove)
}
