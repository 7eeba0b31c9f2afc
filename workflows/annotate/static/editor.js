// The mask in work: what the model says to the prompts, and on top of it what brush and eraser changed.
// Brush strokes are a layer of their own, so that a further click changes the model's part and keeps them.

import { boxOf, decompress, compress, eachStrip, fromBitmap } from "./rle.js";
import { countRegions, holesOf, straysOf } from "./regions.js";

const [UNTOUCHED, ADDED, ERASED] = [0, 1, 2];
const NOTHING = Object.freeze({ points: [], box: null, text: null, candidates: [], chosen: 0, mask: null, asked: null });

export class Editor {
  /**
   * Model's part: {points: [[x, y, label]], box, text, candidates: [{iou, mask, logits}], chosen, mask, asked: prompt that is
   * not answered yet}. Never mutated.
   */
  model = NOTHING;
  /** Whether an existing mask is edited: {mask_id, revision, source_mask_id, ...} or null. */
  origin = null;
  /** What a new mask will be called by all tabs that go on with its draft, so that it becomes one; null before there is one. */
  id = null;
  clicks = 0;
  final; // Uint8Array, column after column as run lengths are: the mask that will be saved
  #modelBitmap;
  #brush;
  #brushBox = null;
  #undone = [];
  #done = [];
  #stroke = null;
  #goesOn = false; // whether it began as a draft, whose steps nobody can undo
  /** Called with the box of pixels that changed. */
  onPaint = () => {};
  onChange = () => {};

  constructor(width, height) {
    [this.width, this.height] = [width, height];
    this.final = new Uint8Array(width * height);
    this.#modelBitmap = new Uint8Array(width * height);
    this.#brush = new Uint8Array(width * height);
  }

  get isEmpty() {
    const { mask, points, box, text } = this.model;
    return !mask && !this.#brushBox && !points.length && !box && !text;
  }

  /** Whether anything was done to it that would be lost, unless it was undone. */
  get isTouched() {
    return this.canUndo || this.#goesOn;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Everything that may hold mask pixels. */
  get box() {
    return union(this.model.mask && boxOf(this.model.mask, this.height), this.#brushBox);
  }

  /** The mask as run lengths. */
  mask() {
    return fromBitmap(this.final, this.height, this.box);
  }

  /** Pixels that brush and eraser made differ from the model's part. */
  brushedPixels() {
    let count = 0;
    this.#eachIn(this.#brushBox, (at) => {
      count += this.final[at] !== this.#modelBitmap[at] ? 1 : 0;
    });
    return count;
  }

  regions() {
    return countRegions(this.mask(), this.width, this.height);
  }

  /** Replaces the model's part as one step of undo. */
  setModel(change) {
    const [before, after] = [this.model, { ...this.model, ...change }];
    this.#show(after);
    this.#push({ before, after });
  }

  /** Replaces the model's part without a step of its own: an answer to the latest prompt. */
  answer(change) {
    const after = { ...this.model, ...change };
    const last = this.#done.at(-1);
    if (last?.after === this.model) last.after = after;
    this.#show(after);
    this.onChange();
  }

  choose(index) {
    const candidate = this.model.candidates[index];
    if (candidate && index !== this.model.chosen) this.setModel({ chosen: index, mask: candidate.mask });
  }

  /** Starts an edit of an existing mask. */
  edit(origin, mask) {
    this.clear();
    this.origin = origin;
    this.#show({ ...NOTHING, mask });
    this.onChange();
  }

  clear() {
    const box = this.box;
    this.#fillBrush(UNTOUCHED);
    this.#show(NOTHING);
    [this.origin, this.id, this.clicks] = [null, null, 0];
    [this.#done, this.#undone, this.#brushBox, this.#goesOn] = [[], [], null, false];
    if (box) this.onPaint(box);
    this.onChange();
  }

  // --- brush -------------------------------------------------------------------------------------------------------

  beginStroke() {
    this.#stroke = { pixels: [], before: [], box: null };
  }

  /** Whether a stroke has begun here: one that goes on may have begun on the image before. */
  get isInStroke() {
    return this.#stroke !== null;
  }

  /** Paints a round brush of a diameter (px) along a line of points in px; `adds` or erases. */
  stroke(x0, y0, x1, y1, diameter, adds) {
    const radius = diameter / 2;
    const box = this.#clipped({
      x0: Math.floor(Math.min(x0, x1) - radius),
      y0: Math.floor(Math.min(y0, y1) - radius),
      x1: Math.ceil(Math.max(x0, x1) + radius) + 1,
      y1: Math.ceil(Math.max(y0, y1) + radius) + 1,
    });
    if (!box) return;
    const [dx, dy] = [x1 - x0, y1 - y0];
    const length = dx * dx + dy * dy;
    const reach = Math.max(radius * radius, 0.5);
    this.#eachIn(box, (at, x, y) => {
      const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
      const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const [ex, ey] = [px - t * dx, py - t * dy];
      if (ex * ex + ey * ey <= reach) this.#set(at, adds ? ADDED : ERASED);
    });
    this.#touch(box);
  }

  endStroke() {
    const stroke = this.#stroke;
    this.#stroke = null;
    if (!stroke?.pixels.length) return;
    const pixels = Int32Array.from(stroke.pixels);
    const before = Uint8Array.from(stroke.before);
    this.#push({ pixels, before, after: Uint8Array.from(pixels, (at) => this.#brush[at]), box: stroke.box });
  }

  fillHoles() {
    this.#paintParts(holesOf(this.mask(), this.width, this.height), ADDED);
  }

  keepLargest() {
    this.#paintParts(straysOf(this.mask(), this.height), ERASED);
  }

  #paintParts(parts, value) {
    this.beginStroke();
    for (const [x, top, bottom] of parts.flat()) {
      for (let at = x * this.height + top, y = top; y < bottom; y++, at++) this.#set(at, value);
      this.#stroke.box = union(this.#stroke.box, { x0: x, y0: top, x1: x + 1, y1: bottom });
    }
    if (this.#stroke.box) this.#touch(this.#stroke.box);
    this.endStroke();
  }

  #touch(box) {
    this.#stroke.box = union(this.#stroke.box, box);
    this.#brushBox = union(this.#brushBox, box);
    this.onPaint(box);
  }

  /** A stroke sets one value, so it comes to each pixel once. */
  #set(at, value) {
    if (this.#brush[at] === value) return;
    this.#stroke.pixels.push(at);
    this.#stroke.before.push(this.#brush[at]);
    this.#brush[at] = value;
    this.final[at] = value === UNTOUCHED ? this.#modelBitmap[at] : value === ADDED ? 1 : 0;
  }

  // --- undo ---------------------------------------------------------------------------------------------------------

  undo() {
    this.#step(this.#done, this.#undone, "before");
  }

  redo() {
    this.#step(this.#undone, this.#done, "after");
  }

  #step(from, to, side) {
    const entry = from.pop();
    if (!entry) return;
    to.push(entry);
    if (entry.pixels) this.#restore(entry, entry[side]);
    else this.#show(entry[side]);
    this.onChange();
  }

  #restore({ pixels, box }, values) {
    pixels.forEach((at, i) => {
      this.#brush[at] = values[i];
      this.final[at] = values[i] === UNTOUCHED ? this.#modelBitmap[at] : values[i] === ADDED ? 1 : 0;
    });
    this.onPaint(box);
  }

  #push(entry) {
    this.#done.push(entry);
    this.#undone = [];
    this.onChange();
  }

  // --- drafts -------------------------------------------------------------------------------------------------------

  /** What a reload needs to go on; null when there is nothing. */
  draft() {
    if (this.isEmpty) return null;
    const layer = (value) => compress(fromBitmap(this.#brush, this.height, this.#brushBox, value));
    const { points, box, text, mask, candidates, chosen, asked } = this.model;
    return {
      origin: this.origin,
      id: this.id,
      clicks: this.clicks,
      points,
      box,
      text,
      mask: mask && compress(mask),
      iou: candidates[chosen]?.iou ?? null,
      asked: asked && { ...asked, previous: null, base: asked.base && compress(asked.base) },
      brush: this.#brushBox && { added: layer(ADDED), erased: layer(ERASED) },
    };
  }

  restore({ origin, id = null, clicks, points, box, text = null, mask: counts, iou = null, asked = null, brush }) {
    this.clear();
    [this.origin, this.id, this.clicks, this.#goesOn] = [origin, id, clicks, true];
    const mask = counts && decompress(counts);
    const candidates = iou === null ? [] : [{ iou, mask, logits: null, frame: null }];
    const question = asked && { ...asked, base: asked.base && decompress(asked.base) };
    this.#show({ ...NOTHING, points, box, text, candidates, mask, asked: question });
    for (const [text, value] of brush ? [[brush.added, ADDED], [brush.erased, ERASED]] : []) {
      const layer = decompress(text);
      eachStrip(layer, this.height, (x, top, bottom) => {
        this.#brush.fill(value, x * this.height + top, x * this.height + bottom);
        this.final.fill(value === ADDED ? 1 : 0, x * this.height + top, x * this.height + bottom);
      });
      this.#brushBox = union(this.#brushBox, boxOf(layer, this.height));
    }
    if (this.box) this.onPaint(this.box);
    this.onChange();
  }

  // --- inside -------------------------------------------------------------------------------------------------------

  #show(model) {
    const [before, after] = [this.model.mask, model.mask];
    this.model = model;
    if (before === after) return;
    this.#fillModel(before, 0);
    this.#fillModel(after, 1);
    const box = union(before && boxOf(before, this.height), after && boxOf(after, this.height));
    if (box) this.onPaint(box);
  }

  #fillModel(mask, value) {
    if (!mask) return;
    eachStrip(mask, this.height, (x, top, bottom) => {
      const [from, to] = [x * this.height + top, x * this.height + bottom];
      this.#modelBitmap.fill(value, from, to);
      for (let at = from; at < to; at++) if (this.#brush[at] === UNTOUCHED) this.final[at] = value;
    });
  }

  #fillBrush(value) {
    this.#eachIn(this.#brushBox, (at) => {
      this.#brush[at] = value;
      this.final[at] = this.#modelBitmap[at];
    });
  }

  #eachIn(box, visit) {
    if (!box) return;
    for (let x = box.x0; x < box.x1; x++) {
      for (let y = box.y0, at = x * this.height + y; y < box.y1; y++, at++) visit(at, x, y);
    }
  }

  #clipped({ x0, y0, x1, y1 }) {
    const box = { x0: Math.max(0, x0), y0: Math.max(0, y0), x1: Math.min(this.width, x1), y1: Math.min(this.height, y1) };
    return box.x0 < box.x1 && box.y0 < box.y1 ? box : null;
  }
}

export function union(a, b) {
  if (!a || !b) return a ?? b;
  return { x0: Math.min(a.x0, b.x0), y0: Math.min(a.y0, b.y0), x1: Math.max(a.x1, b.x1), y1: Math.max(a.y1, b.y1) };
}
