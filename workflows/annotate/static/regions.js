// Parts and holes of a mask. Pixels belong together that touch by sides. A part is a list of strips [column, top, bottom],
// bottom exclusive.

import { eachStrip, inverse } from "./rle.js";

/** How many parts and holes a mask has. */
export function countRegions(mask, width, height) {
  return { parts: partsOf(mask, height).length, holes: holesOf(mask, width, height).length };
}

/** The parts of what is not the mask that touch no border of the image. */
export function holesOf(mask, width, height) {
  const atBorder = ([x, top, bottom]) => x === 0 || x === width - 1 || top === 0 || bottom === height;
  return partsOf(inverse(mask), height).filter((part) => !part.some(atBorder));
}

/** Every part but the largest. */
export function straysOf(mask, height) {
  const parts = partsOf(mask, height);
  const areas = parts.map((part) => part.reduce((sum, [, top, bottom]) => sum + bottom - top, 0));
  const largest = areas.indexOf(areas.reduce((most, area) => Math.max(most, area), 0));
  return parts.filter((_, at) => at !== largest);
}

function partsOf(mask, height) {
  const strips = [];
  eachStrip(mask, height, (...strip) => strips.push(strip));
  const { rootOf, join } = groups(strips.length);
  let left = 0; // the first strip that may touch the next one, from the column before
  strips.forEach(([x, top, bottom], at) => {
    while (strips[left][0] < x - 1 || (strips[left][0] === x - 1 && strips[left][2] <= top)) left++;
    for (let i = left; strips[i][0] === x - 1 && strips[i][1] < bottom; i++) join(i, at);
  });
  const parts = new Map();
  strips.forEach((strip, at) => {
    const root = rootOf(at);
    if (!parts.has(root)) parts.set(root, []);
    parts.get(root).push(strip);
  });
  return [...parts.values()];
}

/** Groups of 0..count-1, at first each alone. */
function groups(count) {
  const above = Int32Array.from({ length: count }, (_, at) => at);
  const rootOf = (at) => {
    while (above[at] !== at) at = above[at] = above[above[at]];
    return at;
  };
  return { rootOf, join: (a, b) => (above[rootOf(a)] = rootOf(b)) };
}
