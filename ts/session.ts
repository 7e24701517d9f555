/**
 * A conversation with a KV cache of its own. The messages live here; the
 * engine compares each prompt with what the sequence holds and reads only what
 * is new.
 */

import type { BindingModel } from './binding.js'
import { type ChatMessage, type ChatOptions, copyMessages } from './chat.js'
import { guarded, RealmError } from './errors.js'
import { Generation, type SettledResult } from './generation.js'
import { copyJson } from './json.js'
import type { Model } from './model.js'
import { type GenerateOptions, readSessionOptions } from './options.js'
import { copyOptions, invalid, reading } from './validate.js'

/** Options of `model.session`: the system message, and defaults for every answer. */
export interface SessionOptions extends Omit<ChatOptions, 'signal'> {
  /** Text of the system message. Default none. */
  system?: string | undefined
}

/** What `save` writes. */
interface SavedSession {
  format: 'realm-session'
  version: 1
  /** The model that the conversation was held with. */
  model: SavedModel
  options: Record<string, unknown>
  messages: ChatMessage[]
}

interface SavedModel {
  architecture: string
  name: string | null
  parameterCount: number
  vocabularySize: number
}

const FORMAT = 'realm-session'
const VERSION = 1

/** Made by `model.session`. Answers one message at a time. */
export class Session {
  readonly #model: Model
  readonly #binding: BindingModel
  #sequence: number
  #options: SessionOptions
  #messages: ChatMessage[]
  #latest: Generation | undefined
  #disposed: Promise<void> | undefined

  /** @internal */
  constructor(model: Model, binding: BindingModel, options: unknown, fork?: Session) {
    this.#model = model
    this.#binding = binding
    this.#options = ownOptions(options)
    this.#messages = fork ? [...fork.#messages] : firstMessages(this.#options)
    this.#sequence = guarded(() =>
      fork ? binding.forkSequence(fork.#sequence) : binding.openSequence(),
    )
  }

  /** The conversation so far, the system message included; a copy. */
  get messages(): ChatMessage[] {
    return structuredClone(this.#messages)
  }

  /**
   * Says something and answers it. The answer joins the conversation when it ends; an aborted
   * one as far as it got, and without what `echo` puts in front. If nothing was answered, or on an
   * error, the conversation stays as it was.
   *
   * @param text    the user's message, or a message in another role, such as a tool's result
   * @param options override the session's own, for this answer
   * @returns a Generation; INVALID_ARGUMENT while another answer is in the making
   */
  send(text: string | ChatMessage, options?: GenerateOptions): Generation {
    try {
      this.#idle('send')
      const message = typeof text === 'string' ? { role: 'user', content: text } : text
      const messages = [...this.#messages, ...copyMessages([message])]
      const { system: _, ...defaults } = this.#options
      const generation = this.#model.generateChat(
        messages,
        { ...defaults, ...copyOptions('send options', options) },
        this.#sequence,
        (settled) => this.#settled(messages, settled),
      )
      this.#latest = generation
      return generation
    } catch (error) {
      return Generation.failed(error)
    }
  }

  /**
   * A second session with the same past. Memory is shared until the two differ.
   *
   * @throws RealmError KV_EXHAUSTED      no sequence is free
   * @throws RealmError INVALID_ARGUMENT  while an answer is in the making
   */
  fork(): Session {
    this.#idle('fork')
    return new Session(this.#model, this.#binding, this.#options, this)
  }

  /**
   * The conversation and its options as bytes (versioned JSON), without the KV cache and
   * without adapters: a session that is restored keeps its own `lora`.
   *
   * @throws RealmError INVALID_ARGUMENT  while an answer is in the making
   */
  save(): Uint8Array {
    this.#idle('save')
    const { lora: _, ...options } = this.#options
    const saved: SavedSession = {
      format: FORMAT,
      version: VERSION,
      model: identity(this.#model),
      options,
      messages: this.#messages,
    }
    return new TextEncoder().encode(JSON.stringify(saved))
  }

  /**
   * Replaces this session's conversation and options by saved ones. The prompt is read again
   * with the next message.
   *
   * @throws RealmError INVALID_ARGUMENT  not what `save` wrote, or written with another model
   */
  restore(bytes: Uint8Array): void {
    this.#idle('restore')
    const saved = parse(bytes)
    const expected = identity(this.#model)
    for (const key of Object.keys(expected) as (keyof SavedModel)[]) {
      if (saved.model?.[key] !== expected[key])
        throw invalid(`saved session's model.${key}`, String(expected[key]), saved.model?.[key])
    }
    const options = ownOptions(saved.options)
    this.#messages = copyMessages(saved.messages)
    this.#options = { ...options, lora: this.#options.lora }
  }

  /** Aborts the answer in the making and gives the KV cache back. Any number of calls. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose()
    return this.#disposed
  }

  async #dispose(): Promise<void> {
    await this.#latest?.[Symbol.asyncDispose]()
    try {
      guarded(() => this.#binding.closeSequence(this.#sequence))
    } catch (error) {
      // A disposed model has closed its sequences already.
      if ((error as RealmError).code !== 'DISPOSED') throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  #settled(messages: ChatMessage[], settled: SettledResult | null): void {
    if (settled === null) return
    const { result, answer } = settled
    if (result.finishReason === 'abort' && answer === '') return
    this.#messages = [...messages, { role: 'assistant', content: answer }]
  }

  #idle(what: string): void {
    if (this.#disposed !== undefined)
      throw new RealmError('DISPOSED', 'the session was disposed of')
    if (this.#latest?.ended !== false) return
    throw new RealmError(
      'INVALID_ARGUMENT',
      `${what}: the session is still answering; await the answer or abort it first`,
    )
  }
}

/** Options whose members nobody else can change, once they are checked. */
function ownOptions(options: unknown): SessionOptions {
  const given = copyOptions('session options', options)
  const { stop, lora } = readSessionOptions(given)
  const own: Record<string, unknown> = { ...given }
  if (given.stop !== undefined) own.stop = stop
  own.lora = lora?.map(({ item, scale }) => ({ adapter: item, scale }))
  for (const name of ['tools', 'documents', 'variables', 'system']) {
    if (given[name] !== undefined) own[name] = copyJson(name, given[name])
  }
  return own
}

function firstMessages({ system }: SessionOptions): ChatMessage[] {
  return system === undefined ? [] : [{ role: 'system', content: system }]
}

function identity(model: Model): SavedModel {
  const { architecture, name, parameterCount, vocabularySize } = model.info
  return { architecture, name, parameterCount, vocabularySize }
}

function parse(bytes: unknown): Partial<SavedSession> {
  if (!reading('saved session', () => bytes instanceof Uint8Array))
    throw invalid('saved session', 'a Uint8Array', bytes)
  let saved: unknown
  try {
    saved = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes as Uint8Array))
  } catch (error) {
    throw new RealmError('INVALID_ARGUMENT', 'saved session: expected what save() wrote', {
      cause: error,
    })
  }
  const { format, version } = (saved ?? {}) as Partial<SavedSession>
  if (format !== FORMAT) throw invalid('saved session format', `'${FORMAT}'`, format)
  if (version !== VERSION) throw invalid('saved session version', String(VERSION), version)
  return saved as Partial<SavedSession>
}
