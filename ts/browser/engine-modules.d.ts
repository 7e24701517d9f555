/** The JavaScript that wasm-bindgen writes for each build; `engine.ts` says what is in it. */
declare module 'realm-engine/*'
