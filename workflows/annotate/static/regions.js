// Parts and holes of a row-major bitmap, by flood fill inside a box.

/**
 * Components of the pixels where `bitmap` is non-zero (value 1) or zero (value 0), touching by sides.
 * @returns {labels: Int32Array over the box, areas: [px] by label from 1, touchesBorder: [bool], width}
 */
function components(bitmap, width, box, value) {
  const columns = box.x1 - box.x0;
  const rows = box.y1 - box.y0;
  const labels = new Int32Array(columns * rows);
  const areas = [0];
  const touchesBorder = [false];
  const stack = [];
  const isWanted = (at) => (bitmap[(Math.floor(at / columns) + box.y0) * width + (at % columns) + box.x0] ? 1 : 0) === value;
  for (let start = 0; start < labels.length; start++) {
    if (labels[start] || !isWanted(start)) continue;
    const label = areas.length;
    areas.push(0);
    touchesBorder.push(false);
    labels[start] = label;
    stack.push(start);
    while (stack.length) {
      const at = stack.pop();
      const x = at % columns;
      const y = Math.floor(at / columns);
      areas[label]++;
      if (x === 0 || y === 0 || x === columns - 1 || y === rows - 1) touchesBorder[label] = true;
      for (const [next, inside] of [
        [at - 1, x > 0],
        [at + 1, x < columns - 1],
        [at - columns, y > 0],
        [at + columns, y < rows - 1],
      ]) {
        if (inside && !labels[next] && isWanted(next)) {
          labels[next] = label;
          stack.push(next);
        }
      }
    }
  }
  return { labels, areas, touchesBorder };
}

/** How many parts and holes a mask has; `box` must contain it with a margin where the image allows one. */
export function countRegions(bitmap, width, box) {
  const parts = components(bitmap, width, box, 1).areas.length - 1;
  const holes = components(bitmap, width, box, 0).touchesBorder.slice(1).filter((touches) => !touches).length;
  return { parts, holes };
}

/** Pixels (indices into the bitmap) of all holes. */
export function holePixels(bitmap, width, box) {
  const { labels, touchesBorder } = components(bitmap, width, box, 0);
  return pixels(labels, width, box, (label) => label > 0 && !touchesBorder[label]);
}

/** Pixels of every part but the largest. */
export function strayPixels(bitmap, width, box) {
  const { labels, areas } = components(bitmap, width, box, 1);
  const largest = areas.indexOf(Math.max(...areas));
  return pixels(labels, width, box, (label) => label > 0 && label !== largest);
}

function pixels(labels, width, box, wanted) {
  const columns = box.x1 - box.x0;
  const found = [];
  for (let at = 0; at < labels.length; at++) {
    if (wanted(labels[at])) found.push((Math.floor(at / columns) + box.y0) * width + (at % columns) + box.x0);
  }
  return found;
}
