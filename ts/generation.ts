/**
 * An answer in the making: a promise of the whole result and a stream of chunks in one.
 */

import type { BindingEvent, BindingGeneration } from './binding.js'
import { isAborted, listen } from './callers.js'
import { RealmError } from './errors.js'

/** A piece of an answer. */
export interface GenerateChunk {
  /** Whole code points; empty when a token completed none. */
  text: string
  /** The tokens of this piece. */
  tokens: Uint32Array
  /** Index of the first of these tokens in the answer. */
  index: number
}

/** A whole answer. */
export interface GenerateResult {
  text: string
  tokens: Uint32Array
  /** 'stop': the model or a stop string ended it; 'length': `maxTokens` or the context did. */
  finishReason: 'stop' | 'length' | 'abort'
  /** The stop string that ended the answer, if one did. */
  stopText: string | null
  /** Draws the same answer again when passed as option. */
  seed: number
  usage: {
    promptTokens: number
    completionTokens: number
    /** promptTokens + completionTokens */
    totalTokens: number
    /** Prompt tokens whose keys and values were already there. */
    cachedTokens: number
  }
  timings: {
    /** How long the model took to load. */
    loadMs: number
    /** Time to read the prompt. */
    promptMs: number
    /** Prompt tokens read in that time: those that were not cached. */
    promptTokens: number
    /** From the call to the first token, waiting in line included. */
    firstTokenMs: number
    /** From the first token to the last, without the time that the answer waited for its reader. */
    decodeMs: number
    /** Tokens made in that time. */
    decodeTokens: number
  }
}

/** A result, and the text of its answer without the prompt that `echo` puts in front. */
export interface SettledResult {
  result: GenerateResult
  answer: string
}

/** What a generation needs to run. */
export interface GenerationPlan {
  /** Starts the engine; events arrive on the JS thread. */
  start(onEvent: (event: BindingEvent) => void): BindingGeneration
  signal: AbortSignal | undefined
  loadMs: number
  /** Whether the first chunk is the prompt. */
  echo: boolean
  /** Tokens that it may be ahead of its reader. */
  maxBuffered: number
  /** Called once, before the result can be seen: with the result, or null after an error. */
  onSettled?: ((settled: SettledResult | null) => void) | undefined
}

type Outcome = { result: GenerateResult } | { error: RealmError }

/**
 * Await it for the result, or iterate it for the chunks, or both, in any order
 * and any number of times: every iteration starts at the first chunk.
 *
 * An answer is computed as it is wanted. Awaited (`then`, `catch`, `finally`), it runs to its end.
 * Otherwise it waits when it is `maxBuffered` tokens ahead of the iteration that has read most, and
 * gives up its memory to others while it does; in Node it then keeps no process alive. So one that
 * nobody awaits or reads does not end by itself: abort it.
 *
 * Leaving a `for await` early (break, return, throw) aborts the generation once
 * no other iteration is going on. Errors reject the promise and end iterations
 * with a RealmError; aborting is no error, the result's `finishReason` says 'abort'.
 */
export class Generation implements Promise<GenerateResult>, AsyncIterable<GenerateChunk> {
  readonly [Symbol.toStringTag] = 'Generation'
  readonly #plan: GenerationPlan
  readonly #chunks: GenerateChunk[] = []
  readonly #result: Promise<GenerateResult>
  #settle!: (outcome: Outcome) => void
  #outcome: Outcome | undefined
  #running: BindingGeneration | undefined
  /** Tokens that it may have by now. */
  #allowed: number
  /** Tokens that it has. */
  #received = 0
  /** Tokens that the iteration which has read most has read. */
  #read = 0
  #isEnding = false
  /** Keeps the process alive while the answer is computed or being ended. */
  #alive: ReturnType<typeof setInterval> | undefined
  #endListening = () => {}
  /** Iterations that wait for the next event. */
  #waiting: (() => void)[] = []
  /** Iterations that have begun and not ended. */
  #readers = 0

  /** @internal */
  constructor(plan: GenerationPlan) {
    this.#plan = plan
    this.#allowed = plan.maxBuffered
    this.#result = new Promise((resolve, reject) => {
      this.#settle = (outcome) =>
        'result' in outcome ? resolve(outcome.result) : reject(outcome.error)
    })
    try {
      this.#endListening = listen(plan.signal, () => this.abort())
      if (isAborted(plan.signal)) this.#finish({ result: abortedResult(plan.loadMs) })
      else {
        this.#running = plan.start((event) => this.#onEvent(event))
        this.#stayAlive()
      }
    } catch (error) {
      this.#finish({ error: RealmError.from(error) })
    }
  }

  /**
   * A generation that failed before it began.
   * @internal
   */
  static failed(error: unknown): Generation {
    return new Generation({
      start: () => {
        throw error
      },
      signal: undefined,
      loadMs: 0,
      echo: false,
      maxBuffered: 1,
    })
  }

  /** Whether the result, or an error, is there. */
  get ended(): boolean {
    return this.#outcome !== undefined
  }

  /** Ends the generation within one step. Has no effect once it has ended. */
  abort(): void {
    this.#running?.abort()
    this.#isEnding = true
    this.#stayAlive()
  }

  /** Ends the generation, then resolves. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.abort()
    await this.#result.catch(() => {})
  }

  // biome-ignore lint/suspicious/noThenProperty: awaiting a generation is its purpose
  then<A = GenerateResult, B = never>(
    onResult?: ((result: GenerateResult) => A | PromiseLike<A>) | null,
    onError?: ((error: RealmError) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#allow(Number.POSITIVE_INFINITY)
    return this.#result.then(onResult, onError)
  }

  catch<B = never>(
    onError?: ((error: RealmError) => B | PromiseLike<B>) | null,
  ): Promise<GenerateResult | B> {
    this.#allow(Number.POSITIVE_INFINITY)
    return this.#result.catch(onError)
  }

  finally(onEnd?: (() => void) | null): Promise<GenerateResult> {
    this.#allow(Number.POSITIVE_INFINITY)
    return this.#result.finally(onEnd)
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<GenerateChunk> {
    // The iteration reports an error; the promise need not report it once more.
    this.#result.catch(() => {})
    let index = 0
    let state: 'new' | 'reading' | 'ended' = 'new'
    const end = () => {
      if (state === 'reading') this.#readers--
      state = 'ended'
    }
    return {
      [Symbol.asyncIterator]() {
        return this
      },
      next: async () => {
        if (state === 'new') {
          state = 'reading'
          this.#readers++
        }
        while (state === 'reading') {
          const chunk = this.#chunks[index]
          if (chunk !== undefined) {
            index++
            this.#hasRead(chunk)
            return { done: false, value: chunk }
          }
          if (this.#outcome === undefined) {
            await new Promise<void>((resolve) => this.#waiting.push(resolve))
            continue
          }
          end()
          if ('error' in this.#outcome) throw this.#outcome.error
        }
        return { done: true, value: undefined }
      },
      return: async () => {
        end()
        if (this.#outcome === undefined && this.#readers === 0) {
          await this[Symbol.asyncDispose]()
        }
        this.#wake()
        return { done: true, value: undefined }
      },
    }
  }

  #onEvent(event: BindingEvent): void {
    if (event.type === 'chunk') {
      this.#chunks.push(event.chunk)
      this.#received += event.chunk.tokens.length
      this.#stayAlive()
      this.#wake()
    } else if (event.type === 'end') {
      this.#finish({ result: toResult(event.result, this.#plan.loadMs) })
    } else {
      this.#finish({ error: RealmError.from(event.error) })
    }
  }

  #finish(outcome: Outcome): void {
    this.#outcome = outcome
    this.#running = undefined
    this.#stayAlive()
    this.#endListening()
    this.#plan.onSettled?.('result' in outcome ? this.#settled(outcome.result) : null)
    this.#settle(outcome)
    this.#wake()
  }

  #hasRead({ index, tokens }: GenerateChunk): void {
    this.#read = Math.max(this.#read, index + tokens.length)
    const { maxBuffered } = this.#plan
    // Not for every token, so that the engine is told less often.
    if (this.#allowed - this.#read <= maxBuffered / 2) this.#allow(this.#read + maxBuffered)
  }

  #allow(tokens: number): void {
    if (tokens <= this.#allowed) return
    this.#allowed = tokens
    this.#running?.allow(tokens)
    this.#stayAlive()
  }

  /** A timer that never does anything is what keeps Node waiting. */
  #stayAlive(): void {
    const isWanted = this.#isEnding || this.#received < this.#allowed
    if (this.#running !== undefined && isWanted) this.#alive ??= setInterval(() => {}, 2 ** 31 - 1)
    else {
      clearInterval(this.#alive)
      this.#alive = undefined
    }
  }

  #settled(result: GenerateResult): SettledResult {
    const echoed = this.#plan.echo ? (this.#chunks[0]?.text ?? '') : ''
    return { result, answer: result.text.slice(echoed.length) }
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }
}

function toResult(
  result: Extract<BindingEvent, { type: 'end' }>['result'],
  loadMs: number,
): GenerateResult {
  return {
    text: result.text,
    tokens: result.tokens,
    finishReason: result.finishReason,
    stopText: result.stopText,
    seed: result.seed,
    usage: {
      promptTokens: result.promptTokens,
      completionTokens: result.completionTokens,
      totalTokens: result.promptTokens + result.completionTokens,
      cachedTokens: result.cachedTokens,
    },
    timings: {
      loadMs,
      promptMs: result.promptMs,
      promptTokens: result.promptTokens - result.cachedTokens,
      firstTokenMs: result.firstTokenMs,
      decodeMs: result.decodeMs,
      // The first token comes out of reading the prompt.
      decodeTokens: Math.max(0, result.completionTokens - 1),
    },
  }
}

/** What a generation that was aborted before it began has to show. */
function abortedResult(loadMs: number): GenerateResult {
  return toResult(
    {
      text: '',
      tokens: new Uint32Array(0),
      finishReason: 'abort',
      stopText: null,
      promptTokens: 0,
      cachedTokens: 0,
      completionTokens: 0,
      seed: 0,
      promptMs: 0,
      firstTokenMs: 0,
      decodeMs: 0,
    },
    loadMs,
  )
}
