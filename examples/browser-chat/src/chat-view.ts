/** The third view: the conversation. */

import { type GenerateResult, type Model, RealmError, type Session } from '@realm-ai/realm'
import { announce, byId, make } from './dom.js'
import { formatBytes, formatRate, formatSeconds } from './format.js'

const SUGGESTIONS = [
  'Tell me a story about a fox.',
  'Tell me a story about a little boat.',
  'What did Lily find in the garden?',
]

/** How near to its end a list counts as being read at the end, in pixels. */
const NEAR_END = 48

const messages = byId('messages')
const empty = byId('empty')
const prompt = byId<HTMLTextAreaElement>('prompt')
const send = byId<HTMLButtonElement>('send-button')
const stop = byId<HTMLButtonElement>('stop-button')

let model: Model | undefined
let session: Session | undefined
let answering: AbortController | undefined

/** Sets the view up, once. */
export function setUpChat(): void {
  byId('suggestions').replaceChildren(
    ...SUGGESTIONS.map((text) => {
      const button = make('button', '', text)
      button.type = 'button'
      button.addEventListener('click', () => submit(text))
      return make('li', '', button)
    }),
  )
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault()
    submit(prompt.value)
  })
  prompt.addEventListener('input', fit)
  prompt.addEventListener('keydown', (event) => {
    // While an input method composes a character, Enter is for that.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    submit(prompt.value)
  })
  addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') answering?.abort()
  })
  stop.addEventListener('click', () => {
    answering?.abort()
    prompt.focus()
  })
  byId('clear-button').addEventListener('click', () => clear())
}

/** Begins a conversation with a model. */
export async function startChat(loaded: Model): Promise<void> {
  model = loaded
  byId('meter-memory').textContent = formatBytes(loaded.info.memory.total)
  byId('meter-backend').textContent = `on ${loaded.info.backend}`
  await clear()
}

/** Ends the conversation; its model can be disposed of then. */
export async function endChat(): Promise<void> {
  answering?.abort()
  await session?.dispose()
  session = undefined
  model = undefined
}

async function clear(): Promise<void> {
  answering?.abort()
  await session?.dispose()
  session = model?.session()
  for (const message of messages.querySelectorAll('.message')) message.remove()
  empty.hidden = false
  byId('meter-speed').textContent = ''
  prompt.value = ''
  fit()
  prompt.focus()
}

async function submit(text: string): Promise<void> {
  if (text.trim() === '' || answering !== undefined || session === undefined) return
  empty.hidden = true
  prompt.value = ''
  fit()
  addMessage('user', 'You', text.trim())
  const answer = addMessage('assistant', 'Model', '')
  setAnswering(new AbortController())
  announce('Answering')
  try {
    const result = await stream(session, text.trim(), answer)
    announce(answer.body.textContent ?? '')
    answer.note(summary(result))
  } catch (error) {
    answer.item.classList.add('failed')
    answer.note(explain(error))
    announce(explain(error))
  } finally {
    answer.item.classList.remove('busy')
    setAnswering(undefined)
  }
}

type Message = ReturnType<typeof addMessage>

/** Shows an answer as it comes, once per frame. */
async function stream(session: Session, text: string, answer: Message): Promise<GenerateResult> {
  const speed = byId('meter-speed')
  const generation = session.send(text, { signal: answering?.signal })
  let pending = ''
  let frame = 0
  let tokens = 0
  let began = 0
  const show = () => {
    frame = 0
    const follow = isAtEnd()
    answer.body.append(pending)
    pending = ''
    if (tokens > 1) speed.textContent = formatRate(tokens - 1, performance.now() - began)
    if (follow) messages.scrollTop = messages.scrollHeight
  }
  for await (const chunk of generation) {
    began ||= performance.now()
    tokens += chunk.tokens.length
    pending += chunk.text
    frame ||= requestAnimationFrame(show)
  }
  cancelAnimationFrame(frame)
  show()
  const result = await generation
  const { decodeTokens, decodeMs } = result.timings
  if (decodeMs > 0) speed.textContent = formatRate(decodeTokens, decodeMs)
  return result
}

function addMessage(role: 'user' | 'assistant', name: string, text: string) {
  const body = make('p', 'body', text)
  const item = make('article', `message ${role}`, make('h2', 'hidden', name), body)
  if (role === 'assistant') item.classList.add('busy')
  messages.append(item)
  messages.scrollTop = messages.scrollHeight
  return {
    item,
    body,
    note: (text: string) => {
      const follow = isAtEnd()
      item.append(make('p', 'note', text))
      if (follow) messages.scrollTop = messages.scrollHeight
    },
  }
}

function setAnswering(controller: AbortController | undefined): void {
  answering = controller
  const hadFocus = document.activeElement === stop || document.activeElement === send
  send.hidden = controller !== undefined
  stop.hidden = controller === undefined
  if (hadFocus) (controller === undefined ? prompt : stop).focus()
}

function summary({ finishReason, usage, timings }: GenerateResult): string {
  const parts = [
    `${usage.completionTokens} ${usage.completionTokens === 1 ? 'token' : 'tokens'}`,
    ...(timings.decodeMs > 0 ? [formatRate(timings.decodeTokens, timings.decodeMs)] : []),
    `first after ${formatSeconds(timings.firstTokenMs / 1000)}`,
  ]
  if (finishReason === 'abort') parts.unshift('Stopped')
  if (finishReason === 'length') parts.unshift('The context is full')
  return parts.join(' · ')
}

function explain(error: unknown): string {
  if (error instanceof RealmError && error.code === 'DISPOSED') return 'The model was unloaded.'
  return error instanceof Error ? error.message : String(error)
}

function isAtEnd(): boolean {
  return messages.scrollHeight - messages.scrollTop - messages.clientHeight < NEAR_END
}

/** Makes the field as high as its text, up to a limit that the style sheet sets. */
function fit(): void {
  prompt.style.height = 'auto'
  prompt.style.height = `${prompt.scrollHeight}px`
}
