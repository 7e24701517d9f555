/**
 * import and require in one process: one package, not two.
 */

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import * as esm from '@realm-ai/realm'
import * as esmNative from '@realm-ai/realm/native'
import { bundledModel } from './support/models.mjs'

const require = createRequire(import.meta.url)
const cjs = require('@realm-ai/realm')
const cjsNative = require('@realm-ai/realm/native')

describe('the package', () => {
  it('exports the same names and values both ways', () => {
    const names = (module) =>
      Object.keys(module).filter((name) => !/^(default|module\.exports|__esModule)$/.test(name))
    assert.deepEqual(names(esm).sort(), names(cjs).sort())
    const imported = { ...esm }
    for (const name of names(cjs)) assert.equal(imported[name], cjs[name], name)
    assert.deepEqual(names(esmNative).sort(), names(cjsNative).sort())
    assert.ok(['Realm', 'RealmError', 'Model', 'Session', 'Generation'].every((n) => n in esm))
  })

  it('has one RealmError', async () => {
    await assert.rejects(esm.Realm.create({ threads: -1 }), cjs.RealmError)
    assert.throws(() => esmNative.storeModel(1), cjs.RealmError)
    assert.throws(() => cjsNative.storeModel(1), esmNative.RealmError)
    assert.equal(esm.RealmError, esmNative.RealmError)
  })

  it('shares stored models', () => {
    const id = esmNative.storeModel(bundledModel)
    assert.equal(cjsNative.getModelInfo(id).architecture, 'llama')
    cjsNative.removeModel(id)
    assert.throws(() => esmNative.getModelInfo(id), { code: 'INVALID_ARGUMENT' })
  })

  it('names its version', () => {
    assert.equal(esm.version, require('@realm-ai/realm/package.json').version)
  })
})
