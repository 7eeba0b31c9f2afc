// Windows: what the model is shown of an image when somebody has zoomed in. Tiles of a pyramid, by the sums of
// sam_core/windows.py, where they are explained. Boxes are {x0, y0, x1, y1} in px, ends exclusive.

const LEAST = 48;

/** The window of a box in an image {width, height}: `zoom` (2 or more) times as large as the box, at least. */
export function windowAround({ width, height }, { x0, y0, x1, y1 }, zoom) {
  const longest = Math.max(width, height);
  const needed = Math.max(LEAST, zoom * Math.max(x1 - x0, y1 - y0));
  let level = 0;
  while (longest >> (level + 1) >= needed) level++;
  const span = -(-longest >> level);
  const [left, right] = nearest(x0, x1, width, span);
  const [top, bottom] = nearest(y0, y1, height, span);
  return { x0: left, y0: top, x1: right, y1: bottom };
}

/** The tile of one axis whose middle is nearest to that of low..high. */
function nearest(low, high, length, most) {
  const span = Math.min(most, length);
  const half = Math.max(1, span >> 1);
  const place = Math.max(0, Math.floor((low + high - span + half) / (2 * half)));
  const begin = Math.min(length - span, place * half);
  return [begin, begin + span];
}
