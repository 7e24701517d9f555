/**
 * LoRA adapters: small files that change what a model says without changing the model.
 */

import type { BindingAdapterInfo, BindingLora, BindingModel } from './binding.js'
import { guarded, RealmError } from './errors.js'
import { type Field, invalid, items, reading } from './validate.js'

/** What an adapter's file says about itself. */
export type LoraInfo = Readonly<BindingAdapterInfo>

/** Made by `model.loadAdapter`, for that model alone. */
export class LoraAdapter {
  /** Name, rank, alpha and size. */
  readonly info: LoraInfo
  readonly #binding: BindingModel
  readonly #id: number
  readonly #onDispose: (adapter: LoraAdapter) => void
  #disposed = false

  /** @internal */
  constructor(
    binding: BindingModel,
    loaded: { id: number; info: LoraInfo },
    onDispose: (adapter: LoraAdapter) => void,
  ) {
    this.#binding = binding
    this.#id = loaded.id
    this.#onDispose = onDispose
    this.info = Object.freeze(loaded.info)
  }

  /** The name in its file, or null. */
  get name(): string | null {
    return this.info.name
  }

  /** The largest rank of its matrices. */
  get rank(): number {
    return this.info.rank
  }

  /**
   * Frees the adapter and takes it out of the model's own list. Generations under way end with
   * it. Any number of calls.
   */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#onDispose(this)
    try {
      guarded(() => this.#binding.removeAdapter(this.#id))
    } catch (error) {
      // A disposed model has freed its adapters already.
      if ((error as RealmError).code !== 'DISPOSED') throw error
    }
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /**
   * Whether something is an adapter, and not only looks like one.
   * @internal
   */
  static is(value: unknown): value is LoraAdapter {
    return typeof value === 'object' && value !== null && #id in value
  }

  /**
   * The number that the engine knows it by.
   * @internal
   */
  idIn(binding: BindingModel): number {
    if (this.#disposed) throw new RealmError('DISPOSED', 'the adapter was disposed of')
    if (binding === this.#binding) return this.#id
    throw new RealmError('INVALID_ARGUMENT', 'lora: the adapter was loaded for another model')
  }
}

/** An adapter and how strongly it counts. */
export interface LoraUse {
  adapter: LoraAdapter
  /** Factor on everything that it adds; 0 is without, negative numbers count. Default 1. */
  scale?: number
}

/** Adapters to run with; several add up. [] runs with none. */
export type LoraOption = LoraAdapter | LoraUse | readonly (LoraAdapter | LoraUse)[]

/** An adapter to load with a model: a path, URL or hf: name. */
export type LoraSource = string | { path: string; scale?: number }

const FALLBACK_SCALE = 1

/** Reads one or several items that are either short, or an object with a scale. */
function listField<T, D>(
  expected: string,
  key: string,
  test: (value: unknown) => value is T,
  fallback: D,
): Field<{ item: T; scale: number }[] | D> {
  const one = (value: unknown) => {
    if (test(value)) return { item: value, scale: FALLBACK_SCALE }
    if (typeof value !== 'object' || value === null) return undefined
    const { [key]: item, scale = FALLBACK_SCALE, ...rest } = value as Record<string, unknown>
    // The engine computes with 32 bits.
    const isNumber = Number.isFinite(scale) && Number.isFinite(Math.fround(scale as number))
    const isSound = test(item) && isNumber && Object.keys(rest).length === 0
    return isSound ? { item, scale: scale as number } : undefined
  }
  return {
    expected,
    fallback,
    parse: (value) => items(Array.isArray(value) ? value : [value], one),
  }
}

/** The option `lora` of generations. */
export const loraField = listField(
  'adapters from model.loadAdapter, or { adapter, scale } with a finite scale',
  'adapter',
  LoraAdapter.is,
  undefined,
)

/** The option `lora` of loading. */
export const loraSourceField = listField(
  "an adapter's path, or { path, scale } with a finite scale, or an array of them",
  'path',
  (value): value is string => typeof value === 'string' && value !== '',
  [],
)

type Uses = NonNullable<ReturnType<typeof loraField.parse>>

/** Reads a list that is an argument of its own. */
export function readLora(value: unknown): Uses {
  const uses = reading('lora', () => loraField.parse(value))
  if (uses === undefined) throw invalid('lora', loraField.expected, value)
  return uses
}

/** What the engine takes; null for the model's own list. */
export function toBindingLora(uses: Uses | undefined, binding: BindingModel): BindingLora[] | null {
  return uses?.map(({ item, scale }) => ({ adapter: item.idIn(binding), scale })) ?? null
}
