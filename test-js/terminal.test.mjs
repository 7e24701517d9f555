/**
 * The realm command on a terminal, as somebody sits in front of it.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { bundledModel, conformanceKit, root, withModel } from './support/models.mjs'
import { CTRL_C, CTRL_D, ENTER, LEFT, paste, Terminal, UP } from './support/terminal.mjs'

const realm = (...args) => new Terminal(process.execPath, [join(root, 'dist', 'bin.js'), ...args])
const GREEDY = ['--temperature', '0', '--max-tokens', '12']
const PROMPT = '> '
/** What an answer of the endless model comes to. */
const ENDLESS = 'endendend'

/** Answers of the bundled model, one after another in one conversation. */
function answersTo(...texts) {
  return withModel(bundledModel, async (model) => {
    const session = model.session({ temperature: 0, maxTokens: 12 })
    const answers = []
    for (const text of texts) answers.push((await session.send(text)).text)
    return answers
  })
}

/** What a terminal shows of a text. */
const shown = (text) => text.replaceAll('\n', '\r\n')

describe('the command on a terminal', { skip: process.platform !== 'linux' }, () => {
  let folder
  /** Options of a model of random weights, whose answers do not end before its context does. */
  let endless

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'realm-terminal-'))
    const file = join(folder, 'endless.gguf')
    const packed = readFileSync(join(conformanceKit(), 'models/gemma3/model.gguf.gz'))
    writeFileSync(file, gunzipSync(packed))
    // One prompt whatever is said, whose best continuation says the same word for ever.
    const template = ['--chat-template', '{{ "hi" }}']
    endless = ['--model', file, ...template, '--temperature', '0', '--context', '32768']
  })
  after(() => rmSync(folder, { recursive: true }))

  const chat = (...options) => realm('chat', '--model', bundledModel, ...options)

  it('ends an answer at Ctrl-C, goes on with the next prompt, and ends at Ctrl-C there', async () => {
    const terminal = realm('chat', ...endless)
    for (const message of ['first', 'second']) {
      await terminal.shows(PROMPT)
      terminal.type(message + ENTER)
      await terminal.shows(ENDLESS)
      terminal.type(CTRL_C)
    }
    await terminal.shows(`\n\x1b[1G\x1b[0J${PROMPT}`)
    terminal.type(CTRL_C)
    assert.equal(await terminal.ends(), 0)
  })

  it('ends at Ctrl-D, at the prompt and in the middle of an answer', async () => {
    const idle = chat()
    await idle.shows(PROMPT)
    idle.type(CTRL_D)
    assert.equal(await idle.ends(), 0)
    const busy = realm('chat', ...endless)
    await busy.shows(PROMPT)
    busy.type(`hi${ENTER}`)
    await busy.shows(ENDLESS)
    busy.type(CTRL_D)
    assert.equal(await busy.ends(), 0)
  })

  it('keeps the chat when a message is too long for the context', async () => {
    const terminal = chat(...GREEDY, '--context', '64')
    await terminal.shows(PROMPT)
    terminal.type('word '.repeat(100) + ENTER)
    await terminal.shows('\nrealm: KV_EXHAUSTED: ')
    await terminal.shows(PROMPT)
    terminal.type(`Hello${ENTER}`)
    const [answer] = await answersTo('Hello')
    await terminal.shows(shown(answer))
    await terminal.shows(PROMPT)
    terminal.type(CTRL_D)
    assert.equal(await terminal.ends(), 0)
  })

  it('lets lines be edited and asked again, and passes over empty ones', async () => {
    const [first, second] = await answersTo('Hello', 'Hello')
    const terminal = chat(...GREEDY)
    await terminal.shows(PROMPT)
    terminal.type(`${ENTER}  ${ENTER}Helo${LEFT}l${ENTER}`)
    await terminal.shows(shown(first))
    await terminal.shows(PROMPT)
    terminal.type(UP + ENTER)
    await terminal.shows(shown(second))
    await terminal.shows(PROMPT)
    terminal.type(CTRL_D)
    assert.equal(await terminal.ends(), 0)
  })

  it('takes lines that are pasted together as one message', async () => {
    const [answer] = await answersTo('Who are you?\nWhat is your name?\nTell me a story.')
    const terminal = chat(...GREEDY)
    await terminal.shows(PROMPT)
    terminal.type(`${paste('Who are you?\nWhat is your name?\nTell me')} a story.${ENTER}`)
    await terminal.shows(shown(answer))
    await terminal.shows(PROMPT)
    terminal.type(CTRL_D)
    assert.equal(await terminal.ends(), 0)
  })

  it('answers what was typed during an answer after it', async () => {
    const terminal = realm('chat', ...endless)
    await terminal.shows(PROMPT)
    terminal.type(`hi${ENTER}`)
    await terminal.shows(ENDLESS)
    terminal.type(`typed meanwhile${ENTER}and begun${CTRL_C}`)
    await terminal.shows(`\n${PROMPT}typed meanwhile\r\n`)
    await terminal.shows(ENDLESS)
    terminal.type(CTRL_C)
    await terminal.shows(`${PROMPT}and begun`)
    terminal.type(CTRL_C + CTRL_C)
    assert.equal(await terminal.ends(), 0)
  })

  it('takes back at Ctrl-C what was typed, and sends what is typed instead', async () => {
    const [answer] = await answersTo('Hello')
    const terminal = chat(...GREEDY)
    await terminal.shows(PROMPT)
    terminal.type(`Tell me${LEFT}${LEFT}${CTRL_C}Hello${ENTER}`)
    await terminal.shows(shown(answer))
    await terminal.shows(PROMPT)
    terminal.type(`${paste('Tell me\na sto')}${CTRL_C}${CTRL_C}`)
    assert.equal(await terminal.ends(), 0)
  })

  it('ends at Ctrl-D in the middle of an answer without answering what was typed meanwhile', async () => {
    const terminal = realm('chat', ...endless)
    await terminal.shows(PROMPT)
    terminal.type(`hi${ENTER}`)
    await terminal.shows(ENDLESS)
    terminal.type(`typed meanwhile${ENTER}${CTRL_D}`)
    assert.equal(await terminal.ends(), 0)
    assert.ok(!terminal.screen.includes('typed meanwhile'), terminal.screen)
  })

  it('forgets the conversation at /new', async () => {
    const [told, again] = await answersTo('Tell me a story about a fox.', 'What is your name?')
    const [fresh] = await answersTo('What is your name?')
    assert.notEqual(again, fresh)
    const terminal = chat(...GREEDY)
    await terminal.shows(PROMPT)
    terminal.type(`Tell me a story about a fox.${ENTER}`)
    await terminal.shows(shown(told))
    await terminal.shows(PROMPT)
    terminal.type(`/new${ENTER}`)
    await terminal.shows(PROMPT)
    terminal.type(`What is your name?${ENTER}`)
    await terminal.shows(shown(fresh))
    await terminal.shows(PROMPT)
    terminal.type(CTRL_D)
    assert.equal(await terminal.ends(), 0)
  })

  it('ends realm run at Ctrl-C, with the timings of what was said', async () => {
    const terminal = realm('run', ...endless, 'hi')
    await terminal.shows(ENDLESS)
    terminal.type(CTRL_C)
    await terminal.shows('\n[load ')
    assert.equal(await terminal.ends(), 130)
  })
})
