// Where a pixel lies: in the image, in the window of it that the model sees, and in the model's input; as
// sam_core/geometry.py has it. A prompt is {points: [[x, y, label]], box, base: mask or null, ...} in px of the image.

import { union } from "./editor.js";
import { boxOf, eachStrip } from "./rle.js";

const MASK_LOGIT = 8;

/**
 * The frame of a window {x0, y0, x1, y1} of an image {width, height}: where it lies, its own size (width, height), what
 * it is in the input (px) of a model {image_size, low_res_size}, and a key that names it.
 */
export function frameOf({ image_size: imageSize, low_res_size: side }, image, window) {
  const { x0: x, y0: y, x1, y1 } = window;
  const [width, height] = [x1 - x, y1 - y];
  const scale = imageSize / Math.max(width, height);
  const scaled = (length) => Math.max(1, Math.floor(length * scale + 0.5));
  const [inputWidth, inputHeight] = [scaled(width), scaled(height)];
  const isWhole = width === image.width && height === image.height;
  const inImage = { key: [x, y, x1, y1].join(), x, y, width, height, isWhole, imageWidth: image.width, imageHeight: image.height };
  return { ...inImage, side, imageSize, inputWidth, inputHeight };
}

/** Whether all of a prompt lies in a frame: points, box, and the mask to start from. */
export function shows({ x, y, width, height, isWhole, imageHeight }, { points, box, base }) {
  if (isWhole) return true;
  const places = points.map(([px, py]) => ({ x0: px, y0: py, x1: px, y1: py }));
  if (box) places.push({ x0: box[0], y0: box[1], x1: box[2], y1: box[3] });
  const all = places.reduce(union, base && boxOf(base, imageHeight));
  return !all || (all.x0 >= x && all.y0 >= y && all.x1 <= x + width && all.y1 <= y + height);
}

/** Points and labels of a prompt in px of the model input, in the order that the prompt encoder wants. */
export function tokens({ x: left, y: top, width, height, inputWidth, inputHeight }, { points, box }) {
  const place = (x, y) => [((x - left) * inputWidth) / width, ((y - top) * inputHeight) / height];
  const placed = points.map(([x, y]) => place(x, y));
  const labels = points.map(([, , label]) => label);
  if (box) return { points: [...placed, place(box[0], box[1]), place(box[2], box[3])].flat(), labels: [...labels, 2, 3] };
  return { points: [...placed, [0, 0]].flat(), labels: [...labels, -1] };
}

/** A mask of the image, all of it in the frame, as low-resolution logits: how much of each cell it covers, -8 to 8. */
export function asLogits({ side, x: left, y: top, width, height, imageHeight }, mask) {
  const cell = Math.max(width, height) / side;
  const at = (place) => Math.min(side - 1, Math.floor(place / cell));
  const covered = new Float32Array(side * side);
  eachStrip(mask, imageHeight, (x, from, to) => {
    const column = at(x - left);
    for (let y = from; y < to; y++) covered[at(y - top) * side + column]++;
  });
  return covered.map((pixels) => (2 * Math.min(1, pixels / (cell * cell)) - 1) * MASK_LOGIT);
}
