/**
 * A thread of its own with a model of its own.
 */

import { parentPort, workerData } from 'node:worker_threads'
import { Realm } from '@realm-ai/realm'

const { source, prompt, options, announce } = workerData
const realm = await Realm.create()
const model = await realm.load(source)
const generation = model.generate(prompt, options)
if (announce) {
  await generation[Symbol.asyncIterator]().next()
  parentPort.postMessage({ started: true })
}
const { text } = await generation
parentPort.postMessage({ result: text })
await realm.dispose()
