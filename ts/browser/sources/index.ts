/**
 * Models as byte sources, for the worker that runs the engine, and the cache of downloads.
 */

export type { ByteSource } from './byte-source.js'
export { browserCache } from './cache.js'
export type { SourceOptions } from './context.js'
export { openSource } from './open.js'
