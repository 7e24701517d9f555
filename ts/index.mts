/**
 * The ES module face. One copy of the code serves both kinds of import, so that
 * classes and loaded models are the same in both.
 */
export * from './index.js'
