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

/** Calls visit(column, top, bottom) for every vertical strip of mask pixels; bottom is exclusive. */
export function eachStrip({ runs, ends }, height, visit) {
  for (let i = 1; i < runs.length; i += 2) {
    let from = ends[i - 1];
    const to = ends[i];
    while (from < to) {
      const x = Math.floor(from / height);
      const stop = Math.min(to, (x + 1) * height);
      visit(x, from - x * height, stop - x * height);
      from = stop;
    }
  }
}

/** Whether pixel (x, y) belongs to the mask. */
export function holds({ runs, ends }, height, x, y) {
  const at = x * height + y;
  let low = 0;
  let high = runs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > at) high = middle;
    else low = middle + 1;
  }
  return low % 2 === 1;
}

/** Mask of the non-zero pixels of a row-major bitmap, which has none outside of `box`. */
export function fromBitmap(bitmap, width, height, box) {
  const runs = [];
  let inside = 0;
  let last = 0;
  if (box) {
    for (let x = box.x0; x < box.x1; x++) {
      if (inside && box.y0 > 0) [last, inside] = close(runs, last, x * height, 0);
      for (let y = box.y0, at = box.y0 * width + x; y < box.y1; y++, at += width) {
        const value = bitmap[at] ? 1 : 0;
        if (value !== inside) [last, inside] = close(runs, last, x * height + y, value);
      }
      if (inside && box.y1 < height) [last, inside] = close(runs, last, x * height + box.y1, 0);
    }
    if (inside && box.x1 < width) [last, inside] = close(runs, last, box.x1 * height, 0);
  }
  runs.push(width * height - last);
  return maskOf(runs);
}

function close(runs, last, at, value) {
  runs.push(at - last);
  return [at, value];
}
