/**
 * Loads, generates and disposes over and over; prints the resident bytes at half time and at the
 * end. Arguments: model, rounds. Needs --expose-gc.
 */

import { Realm } from '@realm-ai/realm'

const [source, rounds] = [process.argv[2], Number(process.argv[3])]

async function round(i) {
  const realm = await Realm.create()
  const model = await realm.load(source)
  const session = model.session({ temperature: 0, maxTokens: 3 })
  await session.send('Hello!')
  for await (const _ of model.generate('Once', { maxTokens: 8, seed: i }));
  for await (const _ of model.generate('Once', { ignoreEos: true })) break
  await realm.dispose()
}

function residentBytes() {
  globalThis.gc()
  return process.memoryUsage().rss
}

let halfway = 0
for (let i = 1; i <= rounds; i++) {
  await round(i)
  if (i === rounds / 2) halfway = residentBytes()
}
console.log(JSON.stringify({ halfway, end: residentBytes() }))
