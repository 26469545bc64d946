// Fail if JavaScript and CSS exceed their budgets, or if the page has inline code or loads from other hosts.
import { readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { join, relative } from "node:path";

/** Budgets in bytes: the first view with charts, and all code. */
const FIRST_VIEW = 160_000;
const WHOLE = 250_000;
const CHART = "src/chart/plot.ts";
const dist = new URL("../dist", import.meta.url).pathname;

/** Return all files below a folder except the API documentation, which no page loads. */
function files(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "docs" ? [] : files(path);
    return [path];
  });
}

/** Return the names of the files that a manifest entry needs. */
function needed(manifest, key, found = new Set()) {
  const part = manifest[key];
  if (!part || found.has(part.file)) return found;
  found.add(part.file);
  for (const style of part.css ?? []) found.add(style);
  for (const other of part.imports ?? []) needed(manifest, other, found);
  return found;
}

const manifest = JSON.parse(readFileSync(join(dist, ".vite/manifest.json"), "utf8"));
rmSync(join(dist, ".vite"), { recursive: true });
const first = new Set(["theme.js", ...needed(manifest, "index.html"), ...needed(manifest, CHART)]);
const counted = files(dist).filter((path) => /\.(js|css)$/.test(path));
const size = (paths) => paths.reduce((sum, path) => sum + statSync(path).size, 0);
const total = size(counted);
const begin = size(counted.filter((path) => first.has(relative(dist, path))));
for (const path of counted) {
  const name = relative(dist, path);
  console.log(String(statSync(path).size).padStart(8), name, first.has(name) ? "" : "(on demand)");
}
console.log(String(begin).padStart(8), `JavaScript + CSS of the first view, budget ${FIRST_VIEW}`);
console.log(String(total).padStart(8), `JavaScript + CSS in all, budget ${WHOLE}`);

const html = readFileSync(join(dist, "index.html"), "utf8");
const faults = [];
if (first.size < 4) faults.push("the build manifest does not list the files of the first view");
if (begin > FIRST_VIEW) faults.push(`${begin} bytes of the first view are over the budget of ${FIRST_VIEW}`);
if (total > WHOLE) faults.push(`${total} bytes in all are over the budget of ${WHOLE}`);
if (/<script(?![^>]*\bsrc=)/.test(html)) faults.push("index.html contains an inline script");
if (/<style|\sstyle=|\son\w+=/.test(html)) faults.push("index.html contains inline styles or handlers");
if (/(src|href)="(https?:)?\/\//.test(html)) faults.push("index.html refers to another host");
if (counted.some((path) => readFileSync(path, "utf8").includes("data:image"))) faults.push("an image is inlined");
for (const fault of faults) console.error(`budget: ${fault}`);
process.exit(faults.length > 0 ? 1 : 0);
