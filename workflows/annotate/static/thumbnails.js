// Candidates as small pictures: the part of the photograph where they lie, with the mask on it.

import { union } from "./editor.js";
import { boxOf, eachStrip } from "./rle.js";

const [WIDTH, HEIGHT, MARGIN] = [138, 96, 1.4];
const [SHADE, MASK] = ["#0008", "#38e1ffb0"];

/** A canvas for each mask, all of the same part of a photo (an img); `height` is that of the image in px. */
export function thumbnails(masks, height, photo) {
  const canvases = masks.map(() => Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT }));
  afterPaint(() => {
    const part = partAround(masks.map((mask) => boxOf(mask, height)).reduce(union, null));
    canvases.forEach((canvas, index) => draw(canvas.getContext("2d"), masks[index], height, photo, part));
  });
  return canvases;
}

/** The mask in work comes first: small pictures wait until it is on the screen. */
function afterPaint(task) {
  requestAnimationFrame(() => setTimeout(task));
}

/** The part that holds a box in its middle, in the shape of a thumbnail. */
function partAround(box) {
  const { x0, y0, x1, y1 } = box ?? { x0: 0, y0: 0, x1: 1, y1: 1 };
  const scale = WIDTH / (MARGIN * Math.max(x1 - x0, ((y1 - y0) * WIDTH) / HEIGHT));
  return { scale, x: (WIDTH - scale * (x0 + x1)) / 2, y: (HEIGHT - scale * (y0 + y1)) / 2 };
}

function draw(context, mask, height, photo, { scale, x, y }) {
  const width = mask.ends.at(-1) / height;
  context.setTransform(scale, 0, 0, scale, x, y);
  context.drawImage(photo, 0, 0, width, height);
  context.fillStyle = SHADE;
  context.fillRect(0, 0, width, height);
  context.fillStyle = MASK;
  const every = Math.max(1, Math.floor(1 / scale)); // columns to a pixel of the thumbnail
  eachStrip(mask, height, (column, top, bottom) => {
    if (column % every === 0) context.fillRect(column, top, every, bottom - top);
  });
}
