// Ends with 0 when this Node satisfies `engines.node` of package.json (parts such as ^20.19.0 or >=22.12.0, joined by ||).
const wanted = require("../engine/web/package.json").engines.node;
const have = process.versions.node.split(".").map(Number);

function atLeast(low) {
  const at = low.findIndex((part, i) => part !== have[i]);
  return at === -1 || have[at] > low[at];
}

const fits = wanted.split("||").some((part) => {
  const [, sign, version] = /^(\^|>=)(\d+\.\d+\.\d+)$/.exec(part.trim());
  const low = version.split(".").map(Number);
  return atLeast(low) && (sign === ">=" || have[0] === low[0]);
});
process.exit(fits ? 0 : 1);
