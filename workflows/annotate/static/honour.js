// Masks that honour their clicks: logits are moved by half of a level all around, and then around each click that is still
// on the wrong side; as sam_core/honour.py does it, which says why.

const MARGIN = 0.05; // by how much a click lies on its side
const MOST = 6; // how far a level lies from 0
const SHARE = 0.5; // of the level
const BEYOND = 1.5; // how far a click's logit is brought, as a part of how far it was wrong
const WIDTH = 0.7; // of what a click moves, as a part of its distance from its side
const [NEAR, FAR] = [1, 1 / 24]; // cells, part of the logits' side: bounds of that distance

/** Logits moved; points (px of the model input) and labels as `tokens` of frame.js makes them. */
export function honourClicks(logits, { side, imageSize }, points, labels) {
  const clicks = [];
  labels.forEach((label, i) => {
    const [x, y] = [2 * i, 2 * i + 1].map((at) => points[at] * (side / imageSize) - 0.5);
    if (label === 0 || label === 1) clicks.push({ x, y, sign: label ? 1 : -1 });
  });
  const level = SHARE * levelOf(logits, side, clicks);
  const moved = level ? logits.map((value) => value - level) : logits;
  return clicks.reduce((before, click) => movedAround(before, side, click), moved);
}

/** The level nearest 0 that has every click on its side; 0 where none is near. */
function levelOf(logits, side, clicks) {
  let [above, below] = [-Infinity, Infinity];
  for (const { x, y, sign } of clicks) {
    const value = valueAt(logits, side, x, y);
    if (sign > 0) below = Math.min(below, value - MARGIN);
    else above = Math.max(above, value + MARGIN);
  }
  const level = Math.min(below, Math.max(above, 0));
  return above < below && Math.abs(level) <= MOST ? level : 0;
}

/** Logits that have one click on its side. */
function movedAround(logits, side, { x, y, sign }) {
  const value = valueAt(logits, side, x, y);
  if (sign * value >= MARGIN) return logits;
  const squareAt = (cell) => ((cell % side) - x) ** 2 + (Math.floor(cell / side) - y) ** 2;
  const own = logits.reduce((least, at, cell) => (sign * at > 0 ? Math.min(least, squareAt(cell)) : least), Infinity);
  const reach = Math.min(Math.max(Math.sqrt(own), NEAR), Math.max(NEAR, FAR * side));
  const spread = logits.map((_, cell) => Math.exp((-0.5 * squareAt(cell)) / (WIDTH * reach) ** 2));
  const move = (sign * MARGIN - BEYOND * value) / valueAt(spread, side, x, y);
  return logits.map((at, cell) => at + move * spread[cell]);
}

/** The logit at a place between cells. */
function valueAt(logits, side, x, y) {
  const [[left, right, across], [top, bottom, down]] = [x, y].map((place) => {
    const bound = Math.min(side - 1, Math.max(0, place));
    const low = Math.floor(bound);
    return [low, Math.min(side - 1, low + 1), bound - low];
  });
  const mix = (a, b, share) => a * (1 - share) + b * share;
  const row = (at) => mix(logits[at * side + left], logits[at * side + right], across);
  return mix(row(top), row(bottom), down);
}
