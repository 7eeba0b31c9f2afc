// Masks that honour their clicks: drawn at the level of logits nearest 0 that has every click on its side; as
// sam_core/honour.py does it.

const MARGIN = 0.05; // by how much a click lies on its side
const MOST = 6; // how far a level lies from 0

/** Logits less their level; points (px of the model input) and labels as `tokens` of frame.js makes them. */
export function honourClicks(logits, { side, imageSize }, points, labels) {
  let [above, below] = [-Infinity, Infinity];
  labels.forEach((label, i) => {
    if (label > 1 || label < 0) return;
    const [x, y] = [2 * i, 2 * i + 1].map((at) => points[at] * (side / imageSize) - 0.5);
    const value = valueAt(logits, side, x, y);
    if (label) below = Math.min(below, value - MARGIN);
    else above = Math.max(above, value + MARGIN);
  });
  const level = Math.min(below, Math.max(above, 0));
  return above < below && level && Math.abs(level) <= MOST ? logits.map((value) => value - level) : logits;
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
