/**
 * The ES module face of the flat API; see `index.mts` for why it is one line.
 */
export * from './native.js'
