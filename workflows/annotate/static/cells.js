// The cells of the model's grid, 4 x 4 logits each: those that hold any of the picture, and the padding beside it.

import { taps } from "./upscale.js";

const SIDE = 4; // logits along a side of a cell

/** The cells of a frame, row after row: `seen` hold any of the picture, `rest` none. Indices into the grid. */
export function cellsOf({ side, imageSize, inputWidth, inputHeight }) {
  const grid = side / SIDE;
  const reach = (length) => Math.floor(taps(length, side / imageSize, side).high.at(-1) / SIDE) + 1;
  const [columns, rows] = [reach(inputWidth), reach(inputHeight)];
  const cells = { seen: [], rest: [] };
  for (let y = 0; y < grid; y++) {
    for (let x = 0; x < grid; x++) cells[y < rows && x < columns ? "seen" : "rest"].push(y * grid + x);
  }
  return cells;
}

/** The values of some cells, one after the other, where those of all cells are given. */
export function gather(values, cells, all) {
  const size = values.length / all;
  const out = new Float32Array(cells.length * size);
  cells.forEach((cell, i) => out.set(values.subarray(cell * size, (cell + 1) * size), i * size));
  return out;
}

/** Writes drawn cells [outputs, cells, i, j, a, b] where they lie among logits [outputs, side, side]. */
export function scatter(drawn, cells, logits, side) {
  const grid = side / SIDE;
  const outputs = logits.length / (side * side);
  let at = 0;
  for (let output = 0; output < outputs; output++) {
    for (const cell of cells) {
      const corner = (output * side + Math.floor(cell / grid) * SIDE) * side + (cell % grid) * SIDE;
      for (let place = 0; place < 16; place++, at++) {
        const y = ((place >> 3) << 1) | ((place >> 1) & 1);
        const x = (((place >> 2) & 1) << 1) | (place & 1);
        logits[corner + y * side + x] = drawn[at];
      }
    }
  }
}
