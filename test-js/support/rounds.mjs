/**
 * Loads, generates and disposes over and over; prints the least resident bytes seen in the
 * second and in the last quarter. Arguments: model, rounds. Needs --expose-gc.
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

/** The allocator hands memory back when it likes, so the least of several looks is what is in use. */
async function leastResidentBytes(from, to) {
  let least = Number.POSITIVE_INFINITY
  for (let i = from; i < to; i++) {
    await round(i)
    if (i % 5 === 0) least = Math.min(least, residentBytes())
  }
  return least
}

const quarter = rounds / 4
await leastResidentBytes(0, quarter)
const halfway = await leastResidentBytes(quarter, 2 * quarter)
await leastResidentBytes(2 * quarter, 3 * quarter)
const end = await leastResidentBytes(3 * quarter, rounds)
console.log(JSON.stringify({ halfway, end }))
