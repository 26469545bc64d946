import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const css = readFileSync(new URL("../src/styles/base.css", import.meta.url), "utf8");

function palette(selector) {
  const block = css.slice(css.indexOf(`${selector} {`)).split("}", 1)[0];
  return Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1], m[2]]));
}

function luminance(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

test("every text colour has contrast AA (4.5) on its backgrounds, light and dark", () => {
  const pairs = [
    ...["text", "quiet", "accent", "warm", "ok"].flatMap((ink) => [
      [ink, "panel"],
      [ink, "ground"],
    ]),
    ["quiet", "raised"],
    ["warm", "warm-soft"],
    ["quiet", "warm-soft"],
    ["accent", "accent-soft"],
  ];
  for (const selector of [":root", ':root[data-theme="dark"]']) {
    const colours = palette(selector);
    for (const [ink, ground] of pairs) {
      const ratio = contrast(colours[ink], colours[ground]);
      assert.ok(ratio >= 4.5, `${selector} ${ink} on ${ground}: ${ratio.toFixed(2)}`);
    }
  }
});
