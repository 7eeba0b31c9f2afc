// Low-resolution logits of a window -> mask at the image's own pixels: bilinear to the model input, cut the padding,
// bilinear to the window, threshold at 0; as sam_core/geometry.py does it. Columns first, so that run lengths come out
// directly.

import { maskOf } from "./rle.js";

/**
 * @param logits Float32Array [side * side], row-major
 * @param frame as in frame.js
 */
export function upscale(logits, frame) {
  const { side, imageSize, inputWidth, inputHeight, width, height, imageWidth, imageHeight } = frame;
  const extent = positiveExtent(logits, side);
  if (!extent) return maskOf([imageWidth * imageHeight]);
  const columns = toInput(logits, side, imageSize, inputWidth, inputHeight);
  const range = (low, high, length, input) => [
    Math.max(0, Math.floor(((low - 1.5) * imageSize * length) / (side * input)) - 1),
    Math.min(length, Math.ceil(((high + 2.5) * imageSize * length) / (side * input)) + 1),
  ];
  const [x0, x1] = range(extent.x0, extent.x1, width, inputWidth);
  const [y0, y1] = range(extent.y0, extent.y1, height, inputHeight);
  return trace(columns, frame, { x0, y0, x1, y1 });
}

/** Cells whose logit is above 0; null when there is none. */
function positiveExtent(logits, side) {
  let [x0, y0, x1, y1] = [side, side, -1, -1];
  for (let y = 0, at = 0; y < side; y++) {
    for (let x = 0; x < side; x++, at++) {
      if (logits[at] <= 0) continue;
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
  }
  return x1 < 0 ? null : { x0, y0, x1, y1 };
}

/** Where each of `length` pixels lies among `from` pixels: index below, index above, weight of the one above. */
export function taps(length, scale, from) {
  const low = new Int32Array(length);
  const high = new Int32Array(length);
  const weight = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const place = Math.max(0, (i + 0.5) * scale - 0.5);
    low[i] = Math.min(from - 1, Math.floor(place));
    high[i] = Math.min(from - 1, low[i] + 1);
    weight[i] = place - low[i];
  }
  return { low, high, weight };
}

/** Logits at the model input without its padding, column-major: Float32Array [inputWidth * inputHeight]. */
function toInput(logits, side, imageSize, inputWidth, inputHeight) {
  const across = taps(inputWidth, side / imageSize, side);
  const down = taps(inputHeight, side / imageSize, side);
  const out = new Float32Array(inputWidth * inputHeight);
  const column = new Float32Array(side);
  for (let x = 0, at = 0; x < inputWidth; x++) {
    const [a, b, w] = [across.low[x], across.high[x], across.weight[x]];
    for (let y = 0; y < side; y++) column[y] = logits[y * side + a] * (1 - w) + logits[y * side + b] * w;
    for (let y = 0; y < inputHeight; y++, at++) {
      out[at] = column[down.low[y]] * (1 - down.weight[y]) + column[down.high[y]] * down.weight[y];
    }
  }
  return out;
}

/** The mask of the second step, looked at inside `roi` (px of the window) only; run lengths go over the whole image. */
function trace(columns, { inputWidth, inputHeight, width, height, x: left, y: above, imageWidth, imageHeight }, roi) {
  const across = taps(width, inputWidth / width, inputWidth);
  const { low, high, weight } = taps(height, inputHeight / height, inputHeight);
  const column = new Float32Array(inputHeight);
  const [top, bottom] = [above + roi.y0, above + roi.y1];
  const runs = [];
  let last = 0;
  let inside = false;
  const turn = (at) => {
    runs.push(at - last);
    last = at;
    inside = !inside;
  };
  for (let x = roi.x0; x < roi.x1; x++) {
    const [a, b, w] = [across.low[x] * inputHeight, across.high[x] * inputHeight, across.weight[x]];
    for (let y = 0; y < inputHeight; y++) column[y] = columns[a + y] * (1 - w) + columns[b + y] * w;
    const start = (left + x) * imageHeight;
    if (inside && top > 0) turn(start);
    for (let y = roi.y0; y < roi.y1; y++) {
      const isMask = column[low[y]] * (1 - weight[y]) + column[high[y]] * weight[y] > 0;
      if (isMask !== inside) turn(start + above + y);
    }
    if (inside && bottom < imageHeight) turn(start + bottom);
  }
  if (inside && left + roi.x1 < imageWidth) turn((left + roi.x1) * imageHeight);
  runs.push(imageWidth * imageHeight - last);
  return maskOf(runs);
}
