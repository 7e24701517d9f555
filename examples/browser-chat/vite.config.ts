import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig, type Plugin } from 'vite'

/** The model that the repository brings along. */
const TINY = 'realm-tiny-stories-Q8_0.gguf'

/** With these, the page may have memory that threads share. */
const headers = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
}

export default defineConfig({
  base: './',
  server: { headers, fs: { allow: ['../..'] } },
  preview: { headers },
  // The package finds its worker and its wasm beside itself.
  optimizeDeps: { exclude: ['@realm-ai/realm'] },
  worker: { format: 'es' },
  plugins: [tinyModel(), serviceWorker()],
})

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Serves the tiny model from where it lies, and puts it into the build. */
function tinyModel(): Plugin {
  const source = () => readFileSync(here(`../models/${TINY}`))
  return {
    name: 'tiny-model',
    configureServer(server) {
      server.middlewares.use(`/models/${TINY}`, (_, response) => response.end(source()))
    },
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: `models/${TINY}`, source: source() })
    },
  }
}

/** Writes the service worker with the list of what every browser needs of the build. */
function serviceWorker(): Plugin {
  return {
    name: 'service-worker',
    apply: 'build',
    enforce: 'post',
    generateBundle(_, bundle) {
      const names = Object.keys(bundle).filter((name) => !/\.(gguf|map|wasm)$/.test(name))
      const hash = createHash('sha256')
      for (const name of names) {
        const file = bundle[name]
        hash.update(file?.type === 'chunk' ? file.code : (file?.source ?? ''))
      }
      const files = [
        './',
        'icon.svg',
        'app.webmanifest',
        ...names.filter((name) => name !== 'index.html'),
      ]
      const version = hash.digest('hex').slice(0, 12)
      const head = `const VERSION = ${JSON.stringify(version)}\nconst FILES = ${JSON.stringify(files)}\n`
      const source = head + readFileSync(here('service-worker.js'), 'utf8')
      this.emitFile({ type: 'asset', fileName: 'service-worker.js', source })
    },
  }
}
