/**
 * `realm chat`: a conversation, line by line.
 */

import { RealmError } from '../errors.js'
import type { Generation } from '../generation.js'
import type { Model } from '../model.js'
import type { GenerateOptions } from '../options.js'
import { Lines } from './lines.js'
import { note, print } from './output.js'

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
        () => show(answer, model.info.contextLength),
      )
    }
  } finally {
    lines.close()
    await conversation.dispose()
  }
}

async function show(answer: Generation, contextLength: number): Promise<void> {
  let isBegun = false
  try {
    for await (const { text } of answer) {
      isBegun ||= text !== ''
      await print(text)
    }
    await print('\n')
    const { usage } = await answer
    if (usage.totalTokens >= contextLength)
      note(`realm: the answer ends here: the context of ${contextLength} tokens is full`)
  } catch (error) {
    // Of one message: the conversation is as it was before it, and goes on.
    if (!(error instanceof RealmError && error.code === 'KV_EXHAUSTED')) throw error
    if (isBegun) await print('\n')
    note(`realm: ${error.code}: ${error.message}`)
  }
}
