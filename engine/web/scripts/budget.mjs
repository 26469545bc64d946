// Fails when the page's own JavaScript and CSS outgrow their budget, or when the page is not made of files of its own.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";

const BUDGET = 160_000;
const dist = new URL("../dist", import.meta.url).pathname;

/** All files below a folder but for the API documentation, which no page of ours loads. */
function files(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "docs" ? [] : files(path);
    return [path];
  });
}

const counted = files(dist).filter((path) => /\.(js|css)$/.test(path));
const total = counted.reduce((sum, path) => sum + statSync(path).size, 0);
for (const path of counted) console.log(String(statSync(path).size).padStart(8), relative(dist, path));
console.log(String(total).padStart(8), `JavaScript + CSS, budget ${BUDGET}`);

const html = readFileSync(join(dist, "index.html"), "utf8");
const faults = [];
if (total > BUDGET) faults.push(`${total} bytes of JavaScript + CSS are over the budget of ${BUDGET}`);
if (/<script(?![^>]*\bsrc=)/.test(html)) faults.push("index.html holds an inline script");
if (/<style|\sstyle=|\son\w+=/.test(html)) faults.push("index.html holds inline style or handlers");
if (/(src|href)="(https?:)?\/\//.test(html)) faults.push("index.html names another host");
if (counted.some((path) => readFileSync(path, "utf8").includes("data:image"))) faults.push("an image is inlined");
for (const fault of faults) console.error(`budget: ${fault}`);
process.exit(faults.length > 0 ? 1 : 0);
