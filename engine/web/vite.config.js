import { defineConfig } from "vite";

/** Everything is a file of our own: no inline script, style or data URL, so the page lives under `default-src 'self'`. */
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
    manifest: true,
    license: { fileName: "licenses.md" },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/api": "http://127.0.0.1:8600", "/login": "http://127.0.0.1:8600" } },
});
