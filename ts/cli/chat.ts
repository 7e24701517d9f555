/**
 * `realm chat`: a conversation, line by line.
 */

import { RealmError, type RealmErrorCode } from '../errors.js'
import type { Generation } from '../generation.js'
import type { Model } from '../model.js'
import type { GenerateOptions } from '../options.js'
import { Lines } from './lines.js'
import { note, print } from './output.js'

/** What concerns one message: the conversation is as it was before it, and goes on. */
const OF_ONE_MESSAGE: readonly RealmErrorCode[] = ['KV_EXHAUSTED', 'INVALID_ARGUMENT']

const HINT = 'Ctrl-C ends an answer, Ctrl-D the chat; /new starts over.'

export async function chat(
  model: Model,
  system: string | undefined,
  options: GenerateOptions,
): Promise<void> {
  const session = () => model.session({ system, ...options })
  let conversation = session()
  const lines = new Lines()
  try {
    if (lines.isTerminal) note(HINT)
    for (let line = await lines.next(); line !== undefined; line = await lines.next()) {
      if (line.trim() === '') continue
      if (lines.isTerminal && line.trim() === '/new') {
        await conversation.dispose()
        conversation = session()
        continue
      }
      const answer = conversation.send(line)
      await lines.during(
        () => answer.abort(),
        () => show(answer),
      )
    }
  } finally {
    lines.close()
    await conversation.dispose()
  }
}

async function show(answer: Generation): Promise<void> {
  let isBegun = false
  try {
    for await (const { text } of answer) {
      isBegun ||= text !== ''
      await print(text)
    }
    await print('\n')
  } catch (error) {
    if (!(error instanceof RealmError && OF_ONE_MESSAGE.includes(error.code))) throw error
    if (isBegun) await print('\n')
    note(`realm: ${error.code}: ${error.message}`)
  }
}
