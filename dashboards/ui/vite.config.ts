import { defineConfig } from 'vite'

// One script and one style sheet, named by their content, so that the result
// is the same on every machine and may be cached for ever.
export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: { proxy: { '/ui/api': 'http://127.0.0.1:9090', '/api/v1': 'http://127.0.0.1:9090' } },
})
