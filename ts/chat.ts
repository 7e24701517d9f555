/**
 * Chat messages and the templates that turn them into prompts.
 */

import type { BindingConversation } from './binding.js'
import { guarded } from './errors.js'
import { copyJson, toJson } from './json.js'
import { type GenerateOptions, readTemplateOptions } from './options.js'
import { binding } from './platform.js'
import { invalid, reading, requireString } from './validate.js'

/**
 * A part of a message's content, for templates that take several. Built-in templates join the texts
 * of parts of type 'text', a line each, and refuse others by name (TEMPLATE_ERROR).
 */
export type ChatContentPart = { type: string } & Record<string, unknown>

/** One turn of a conversation. Further members are handed to the template as they are. */
export interface ChatMessage {
  /** 'system', 'user', 'assistant', 'tool', or what else the template knows. */
  role: string
  content?: string | readonly ChatContentPart[] | null
  name?: string
  tool_calls?: readonly object[]
  tool_call_id?: string
  [member: string]: unknown
}

/** A function the model may ask for, in the form that templates expect. */
export interface ChatTool {
  type: string
  function: { name: string; description?: string; parameters?: object }
}

/** What a template is rendered with. */
export interface TemplateOptions {
  /**
   * Functions that the template describes to the model. Default none. A template that knows no
   * tools, as no built-in one does, leaves them out: `logger` is warned of it, once for each model.
   */
  tools?: readonly ChatTool[]
  /** Documents to answer from, for templates that know them. Default none. */
  documents?: readonly object[]
  /** Variables of the template, such as `enable_thinking`. Default none. */
  variables?: Record<string, unknown>
  /**
   * A template instead of the model's: the name of a built-in one, such as 'chatml', or Jinja.
   * Default: the model's.
   */
  template?: string
  /** Ends the prompt with the start of the assistant's turn. Default true, unless the last message is continued. */
  addGenerationPrompt?: boolean
  /** Ends the prompt with the text of the last message, for the model to go on. Default false. */
  continueFinalMessage?: boolean
}

/** Options of `model.chat`: those of an answer and those of the template. */
export interface ChatOptions
  extends GenerateOptions,
    Omit<TemplateOptions, 'addGenerationPrompt' | 'continueFinalMessage'> {}

/**
 * Renders a chat template that belongs to no loaded model.
 *
 * `bos_token` and `eos_token` are variables like any other here. The template is compiled anew
 * with each call, and may run for 50 ms, since the caller waits; a model keeps its own compiled.
 *
 * @param template Jinja source, as in `tokenizer.chat_template` of a GGUF file, or the name of a
 *   built-in template, such as 'chatml'
 * @throws RealmError TEMPLATE_ERROR    the template does not parse, raised an error, or takes longer
 * @throws RealmError INVALID_ARGUMENT  a message without a role, a value that JSON cannot hold
 */
export function renderChatTemplate(
  template: string,
  messages: readonly ChatMessage[],
  options?: Omit<TemplateOptions, 'template'>,
): string {
  requireString('template', template)
  const conversation = toConversation(messages, options)
  return guarded(() => binding().renderChatTemplate({ ...conversation, template }))
}

/** Checks messages and template options and writes them as JSON. */
export function toConversation(messages: unknown, options: unknown): BindingConversation {
  const { tools, documents, variables, template, addGenerationPrompt, continueFinalMessage } =
    readTemplateOptions(options)
  return {
    messages: toJson('messages', checkMessages(messages)),
    tools: tools === undefined ? null : toJson('tools', tools),
    variables: toJson(
      'variables',
      reading('variables', () => ({ ...variables, ...(documents && { documents }) })),
    ),
    addGenerationPrompt: addGenerationPrompt ?? !continueFinalMessage,
    continueFinalMessage,
    template: template ?? null,
  }
}

/** The messages, once they are known to be a list of objects with a role and a content. */
function checkMessages(messages: unknown): ChatMessage[] {
  return reading('messages', () => {
    if (!Array.isArray(messages)) throw invalid('messages', 'an array of messages', messages)
    for (let i = 0; i < messages.length; i++) checkMessage(`messages[${i}]`, messages[i])
    return messages
  })
}

function checkMessage(what: string, message: unknown): void {
  if (typeof message !== 'object' || message === null)
    throw invalid(what, 'an object with role and content', message)
  const { role, content } = message as { role?: unknown; content?: unknown }
  if (typeof role !== 'string') throw invalid(`${what}.role`, 'a string', role)
  const isContent =
    content === undefined ||
    content === null ||
    typeof content === 'string' ||
    Array.isArray(content)
  if (!isContent) throw invalid(`${what}.content`, 'a string or an array', content)
}

/** Messages that nobody else can change, once they are checked. */
export function copyMessages(messages: unknown): ChatMessage[] {
  checkMessages(messages)
  return checkMessages(copyJson('messages', messages))
}
