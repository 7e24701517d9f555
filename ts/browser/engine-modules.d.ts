/** The JavaScript that wasm-bindgen writes for each build; `engine.ts` says what it gives. */
declare module 'realm-engine/*' {
  export function createEngine(): unknown
}
