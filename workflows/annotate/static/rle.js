// Masks as run lengths down the columns, the COCO way, and as COCO's compressed counts (text).
// A mask here is {runs, ends}: Int32Array of runs (background first) and their running sum.

const FIRST = 48; // code of the first character of the alphabet
const MORE = 0x20;
const SIGN = 0x10;

/** Mask of run lengths (array of integers, background first, covering the image). */
export function maskOf(runs) {
  const ends = new Int32Array(runs.length);
  let sum = 0;
  for (let i = 0; i < runs.length; i++) ends[i] = sum += runs[i];
  return { runs: Int32Array.from(runs), ends };
}

/** Text -> mask. */
export function decompress(text) {
  const runs = [];
  let at = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let group;
    do {
      group = text.charCodeAt(at++) - FIRST;
      value |= (group & (MORE - 1)) << shift;
      shift += 5;
    } while (group & MORE);
    if (group & SIGN && shift < 32) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return maskOf(runs);
}

/** Mask -> text. */
export function compress({ runs }) {
  const codes = [];
  for (let i = 0; i < runs.length; i++) {
    let rest = i > 2 ? runs[i] - runs[i - 2] : runs[i];
    let group;
    do {
      group = rest & (MORE - 1);
      rest >>= 5;
      const last = group & SIGN ? rest === -1 : rest === 0;
      if (!last) group |= MORE;
      codes.push(group + FIRST);
    } while (group & MORE);
  }
  let text = "";
  for (let i = 0; i < codes.length; i += 8192) text += String.fromCharCode(...codes.slice(i, i + 8192));
  return text;
}

/** Pixels of a mask. */
export function areaOf({ runs }) {
  let area = 0;
  for (let i = 1; i < runs.length; i += 2) area += runs[i];
  return area;
}

/** Box {x0, y0, x1, y1} of a mask, ends exclusive; null when it is empty. */
export function boxOf(mask, height) {
  let [x0, y0, x1, y1] = [Infinity, height, -1, -1];
  eachStrip(mask, height, (x, top, bottom) => {
    if (x < x0) x0 = x;
    if (x > x1) x1 = x;
    if (top < y0) y0 = top;
    if (bottom > y1) y1 = bottom;
  });
  return x1 < 0 ? null : { x0, y0, x1: x1 + 1, y1 };
}

/**
 * Calls visit(column, top, bottom) for every vertical strip of mask pixels in the columns `first` to `last`, which are all
 * if none are given; bottom and `last` are exclusive.
 */
export function eachStrip({ runs, ends }, height, visit, first = 0, last = Infinity) {
  const [low, high] = [first * height, last * height];
  for (let i = runAt(ends, low) | 1; i < runs.length && ends[i - 1] < high; i += 2) {
    let from = Math.max(low, ends[i - 1]);
    const to = Math.min(high, ends[i]);
    while (from < to) {
      const x = Math.floor(from / height);
      const stop = Math.min(to, (x + 1) * height);
      visit(x, from - x * height, stop - x * height);
      from = stop;
    }
  }
}

/** Whether pixel (x, y) belongs to the mask. */
export function holds({ ends }, height, x, y) {
  return runAt(ends, x * height + y) % 2 === 1;
}

/** The run that a pixel lies in, counted down the columns; the last one for what lies behind. */
function runAt(ends, pixel) {
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > pixel) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** All that is not the mask. */
export function inverse({ runs }) {
  return maskOf(runs[0] ? [0, ...runs] : runs.subarray(1));
}

/** Mask of the pixels of a bitmap, column after column, that have a value; none has outside of `box`. */
export function fromBitmap(bitmap, height, box, value = 1) {
  const runs = [];
  const [from, to] = box ? [box.x0 * height, box.x1 * height] : [0, 0];
  let last = 0;
  let inside = false;
  for (let at = from; at < to; at++) {
    if ((bitmap[at] === value) === inside) continue;
    runs.push(at - last);
    last = at;
    inside = !inside;
  }
  if (inside && to < bitmap.length) {
    runs.push(to - last);
    last = to;
  }
  runs.push(bitmap.length - last);
  return maskOf(runs);
}
