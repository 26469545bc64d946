import { defineConfig } from "vite";

/** Emit files only: no inline script, style or data URL, as the policy `default-src 'self'` requires. */
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
