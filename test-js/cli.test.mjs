/**
 * The realm command, and the command of the repository that builds and runs it.
 */

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { bundledModel, root, withModel } from './support/models.mjs'

const bin = join(root, 'dist', 'bin.js')
const QUESTION = 'Tell me a story about a little dog.'

function realm(args, input = '') {
  return spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8', input, cwd: root })
}

function greedyAnswer(messages, options) {
  return withModel(bundledModel, (model) =>
    model.chat(messages, { temperature: 0, maxTokens: 20, ...options }),
  )
}

describe('realm run', () => {
  const run = ['run', '--model', bundledModel, '--max-tokens', '20', '--temperature', '0']

  it('prints the answer, and one line of timings on standard error', async () => {
    const { stdout, stderr, status } = realm([...run, QUESTION])
    assert.equal(status, 0)
    const { text } = await greedyAnswer([{ role: 'user', content: QUESTION }])
    assert.equal(stdout, `${text}\n`)
    assert.match(stderr, /^\[load .* ms \| prompt .* \| decode 19 tokens in .*\]\n$/)
  })

  it('reads a prompt that is - from standard input', async () => {
    const { text } = await greedyAnswer([{ role: 'user', content: QUESTION }])
    const { stdout, status } = realm([...run, '-'], QUESTION)
    assert.equal(status, 0)
    assert.equal(stdout, `${text}\n`)
  })

  it('prints one JSON object and nothing else with --json', () => {
    const { stdout, status } = realm([...run, '--json', QUESTION])
    assert.equal(status, 0)
    const result = JSON.parse(stdout)
    assert.equal(result.tokens.length, 20)
    assert.equal(result.finishReason, 'length')
    assert.equal(result.usage.totalTokens, result.usage.promptTokens + 20)
    assert.ok(result.timings.decodeMs > 0)
    assert.equal(typeof result.text, 'string')
  })

  it('takes a system message, and with --raw no template', async () => {
    const system = 'You are Ruby, a friendly helper.'
    const messages = [
      { role: 'system', content: system },
      { role: 'user', content: 'What is your name?' },
    ]
    const { text } = await greedyAnswer(messages)
    const chat = realm([...run, '--json', '--system', system, 'What is your name?'])
    assert.equal(JSON.parse(chat.stdout).text, text)
    const raw = realm([...run, '--json', '--raw', 'Once upon a time'])
    const plain = await withModel(bundledModel, (model) =>
      model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }),
    )
    assert.equal(JSON.parse(raw.stdout).text, plain.text)
  })

  it('takes another chat template', async () => {
    const template = '{% for m in messages %}{{ m.content }}{% endfor %}'
    const told = realm([...run, '--json', '--chat-template', template, 'Once upon a time'])
    const plain = await withModel(bundledModel, (model) =>
      model.generate('Once upon a time', { temperature: 0, maxTokens: 20 }),
    )
    assert.equal(JSON.parse(told.stdout).text, plain.text)
    const { status, stderr } = realm([...run, '--chat-template', '{% if %}', 'hi'])
    assert.equal(status, 1)
    assert.match(stderr, /TEMPLATE_ERROR/)
  })

  it('says the same for the same seed', () => {
    const seeded = ['run', '--model', bundledModel, '--json', '--max-tokens', '20', '--seed', '5']
    const [first, second] = [1, 2].map(() => JSON.parse(realm([...seeded, QUESTION]).stdout))
    assert.equal(first.text, second.text)
    assert.equal(first.seed, 5)
  })

  it('says in one line what is wrong, and exits with 1 or 2', () => {
    const missing = realm(['run', '--model', '/no/such.gguf', 'hi'])
    assert.equal(missing.status, 1)
    assert.match(missing.stderr, /^realm: MODEL_NOT_FOUND: .*such\.gguf.*\n$/)
    const cases = [
      [[], /expected a command/],
      [['run'], /expected a prompt/],
      [['run', 'hi'], /expected --model/],
      [['run', '--nonsense', 'hi'], /nonsense/],
      [[...run, '--seed', 'five', 'hi'], /--seed: expected a number, got "five"/],
      [[...run, '--raw', '--system', 'x', 'hi'], /--system/],
      [['talk'], /there is no command "talk", expected one of: run, chat, bench, quantize/],
      [[...run, '-'], /expected a prompt/],
      [[...run, '--imatrix', 'x', 'hi'], /run has no option --imatrix/],
      [['quantize', '--raw', 'a', 'b', 'c'], /quantize has no option --raw/],
      [['chat', '--model', bundledModel, 'hi'], /chat: expected no prompt, got "hi"/],
      [[...run, '--threads', '-1', 'hi'], /--threads/],
    ]
    for (const [args, message] of cases) {
      const { status, stderr, stdout } = realm(args)
      assert.equal(status, 2, args.join(' '))
      assert.match(stderr, message)
      assert.match(stderr, /^realm: [^\n]*; realm --help says what there is\n$/)
      assert.equal(stdout, '')
    }
    const folder = realm(['run', '--model', root, 'hi'])
    assert.equal(folder.status, 1)
    assert.match(folder.stderr, /^realm: MODEL_UNREADABLE: .*not a regular file\n$/)
    assert.equal(realm([...run, '--max-tokens', '0', 'hi']).status, 1)
  })

  it('ends the answer at Ctrl-C, with the timings of what was said', async () => {
    const child = spawn(process.execPath, [
      bin,
      'run',
      '--model',
      bundledModel,
      '--temperature',
      '50',
      '--context',
      '32768',
      QUESTION,
    ])
    child.stdout.once('data', () => child.kill('SIGINT'))
    child.stdout.resume()
    let stderr = ''
    child.stderr.on('data', (data) => {
      stderr += data
    })
    const [code] = await once(child, 'close')
    assert.equal(code, 130)
    assert.match(stderr, /^\[load .*\]\n$/)
  })
})

describe('standard output', { skip: process.platform === 'win32' }, () => {
  const command = (args) => [process.execPath, bin, ...args].map((arg) => `'${arg}'`).join(' ')
  const shell = (line) => spawnSync('bash', ['-c', line], { encoding: 'utf8', cwd: root })
  const commands = {
    run: command(['run', '--model', bundledModel, '--temperature', '0', QUESTION]),
    'run --json': command(['run', '--model', bundledModel, '--json', QUESTION]),
    chat: `echo hello | ${command(['chat', '--model', bundledModel])}`,
    '--help': command(['--help']),
    '--version': command(['--version']),
  }

  for (const [name, line] of Object.entries(commands)) {
    it(`that nobody reads any more ends realm ${name} quietly`, () => {
      for (const reader of ['true', 'head -c 1']) {
        const { stderr, stdout } = shell(`${line} | ${reader}; echo " \${PIPESTATUS[*]}"`)
        assert.match(stdout, /(^| )0 0( 0)?\n$/, reader)
        assert.doesNotMatch(stderr, /EPIPE|Error|\n {4}at /)
      }
    })

    it(`that is full ends realm ${name} with one line`, { skip: !existsSync('/dev/full') }, () => {
      const { stderr, status } = shell(`${line} > /dev/full`)
      assert.equal(status, 1)
      assert.match(stderr, /^realm: standard output cannot be written: ENOSPC[^\n]*\n$/)
    })
  }
})

describe('realm chat', () => {
  it('remembers what was said', async () => {
    const lines = ['Tell me a story about a fox named Nina.', 'What is your name?']
    const chat = ['chat', '--model', bundledModel, '--temperature', '0', '--max-tokens', '20']
    const { stdout, status } = realm(chat, `${lines.join('\n')}\n`)
    assert.equal(status, 0)
    const first = await greedyAnswer([{ role: 'user', content: lines[0] }])
    const second = await greedyAnswer([
      { role: 'user', content: lines[0] },
      { role: 'assistant', content: first.text },
      { role: 'user', content: lines[1] },
    ])
    assert.ok(stdout.includes(first.text), stdout)
    assert.equal(stdout, `${first.text}\n${second.text}\n`)
  })

  it('goes on after a message that is too long, and says so in one line', async () => {
    const options = ['--temperature', '0', '--max-tokens', '8', '--context', '256']
    const chat = ['chat', '--model', bundledModel, ...options]
    const { stdout, stderr, status } = realm(chat, `ok\n${'x'.repeat(4000)}\n\nhi\n`)
    assert.equal(status, 0)
    const ok = { role: 'user', content: 'ok' }
    const first = await greedyAnswer([ok], { maxTokens: 8 })
    const said = [ok, { role: 'assistant', content: first.text }]
    const last = await greedyAnswer([...said, { role: 'user', content: 'hi' }], { maxTokens: 8 })
    assert.equal(stdout, `${first.text}\n${last.text}\n`)
    assert.match(stderr, /^realm: KV_EXHAUSTED: [^\n]*\n$/)
  })

  it('goes on when the conversation has filled the context', () => {
    const chat = ['chat', '--model', bundledModel, '--temperature', '0', '--context', '64']
    const lines = Array.from({ length: 9 }, () => 'Tell me a story about a fox.')
    const { stdout, stderr, status } = realm(chat, `${lines.join('\n')}\n`)
    assert.equal(status, 0)
    assert.notEqual(stdout, '')
    const full = /^realm: the answer ends here: the context of 64 tokens is full\n/
    assert.match(stderr, new RegExp(`${full.source}(realm: KV_EXHAUSTED: [^\\n]*\\n)+$`))
  })
})

describe('realm bench', () => {
  const bench = ['bench', bundledModel, '--prompt', '32', '--decode', '8', '--context', '0,40']

  it('prints rates with nothing and with some tokens before the prompt', () => {
    const { stdout, stderr, status } = realm(bench)
    assert.equal(stderr, '')
    assert.equal(status, 0)
    const lines = stdout.trimEnd().split('\n')
    assert.match(lines[0], /^realm tiny stories: 3\.9 MB per token$/)
    const rates = /prompt of 32 at [\d.]+ tokens\/s, 8 decoded at [\d.]+ tokens\/s \([\d.]+ GB\/s/
    for (const [i, context] of [0, 40].entries()) {
      const line = lines.at(i - 2)
      assert.ok(line.startsWith(`context ${context}: `), line)
      assert.match(line, rates)
    }
  })

  it('prints one JSON object with --json', () => {
    const { stdout, status } = realm([...bench, '--json', '--threads', '1'])
    assert.equal(status, 0)
    const { info, rates } = JSON.parse(stdout)
    assert.equal(info.threads, 1)
    assert.deepEqual(
      rates.map(({ context }) => context),
      [0, 40],
    )
    for (const rate of rates) {
      assert.ok(rate.promptRate > 0 && rate.decodeRate > 0)
      assert.equal(rate.decodeBytesPerSecond, rate.decodeRate * info.bytesPerToken)
    }
  })

  it('refuses what it cannot measure', () => {
    assert.equal(realm(['bench']).status, 2)
    const { status, stderr } = realm(['bench', bundledModel, '--context', '0,x'])
    assert.equal(status, 2)
    assert.match(stderr, /--context: expected a number, got "x"/)
    for (const [flag, value] of [
      ['--decode', '0'],
      ['--prompt', '1.5'],
      ['--context', '-1'],
    ]) {
      const { status, stderr } = realm(['bench', bundledModel, `${flag}=${value}`])
      assert.equal(status, 2, `${flag} ${value}`)
      assert.match(stderr, new RegExp(`${flag}: expected a whole number`))
    }
  })
})

describe('npm start', () => {
  const start = join(root, 'scripts', 'start.mjs')

  it('answers with the bundled model and keeps its own words off standard output', () => {
    const { stdout, status } = spawnSync(
      process.execPath,
      [start, QUESTION, '--json', '--max-tokens', '5', '--temperature', '0'],
      { encoding: 'utf8' },
    )
    assert.equal(status, 0)
    assert.equal(JSON.parse(stdout).tokens.length, 5)
  })

  it('builds nothing when nothing changed', () => {
    const { stderr } = spawnSync(process.execPath, [start, 'Hi', '--max-tokens', '1'], {
      encoding: 'utf8',
    })
    assert.match(stderr, /^\[load [^\n]*\]\n$/, 'the timings alone')
  })
})
