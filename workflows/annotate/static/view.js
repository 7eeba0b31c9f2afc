// The picture and its layers: photo, saved masks, mask in work, each painted once at the image's own pixels and moved by
// the compositor; on top a canvas the size of the window for prompts, brush and crosshair.

import { boxOf, eachStrip } from "./rle.js";
import { union } from "./editor.js";

const ACTIVE = [56, 225, 255];
const [FILL, EDGE, ACTIVE_FILL] = [92, 235, 104];
const BAND = 128; // columns that are painted at once: pixels that take no memory, and lie near one another
const EDGES = { least: 0.5, most: 3 }; // pixels of the screen, between which the width of borders stays as it is
const ZOOM = { least: 0.05, most: 40, step: 1.25 };
const LIGHTNESS = [0.48, 0.62, 0.76]; // of the masks, so that equal hues differ

export class View {
  #viewport;
  #paper;
  #photo;
  #saved;
  #active;
  #overlay;
  #masks = new Map(); // id -> {mask, box, area, colour}
  #url = null;
  #editor = null;
  scale = 1;
  x = 0;
  y = 0;
  showSaved = true;
  #isFitted = true; // whether all of the picture is shown, which a window of another size does not change
  /** Called when another part of the image may have become visible. */
  onMove = () => {};
  /** What the overlay shows: {points, box, draggedBox, cursor: {x, y, diameter, kind}}. Set by the app before `draw`. */
  overlay = { points: [], box: null, cursor: null };

  constructor(viewport) {
    this.#viewport = viewport;
    this.#paper = viewport.querySelector("#paper");
    [this.#photo, this.#saved, this.#active] = ["#photo", "#saved-layer", "#active"].map((id) => viewport.querySelector(id));
    this.#overlay = viewport.querySelector("#overlay");
    new ResizeObserver(() => this.#resize()).observe(viewport);
    this.#resize();
  }

  /** Shows a picture (Blob) and empty layers. */
  async open(blob, width, height, editor) {
    [this.width, this.height, this.#editor] = [width, height, editor];
    this.#masks.clear();
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(blob);
    this.#photo.src = this.#url;
    for (const layer of [this.#saved, this.#active]) [layer.width, layer.height] = [width, height];
    for (const layer of [this.#photo, this.#saved, this.#active]) {
      layer.style.width = `${width}px`;
      layer.style.height = `${height}px`;
    }
    await this.#photo.decode().catch(() => undefined);
    editor.onPaint = (box) => this.paintActive(box);
    this.fit();
    this.edge = this.#suitingEdge;
  }

  // --- place ---------------------------------------------------------------------------------------------------------

  /** The scale at which all of the picture is on the screen. */
  get #fitting() {
    const { clientWidth, clientHeight } = this.#viewport;
    return Math.min((clientWidth - 32) / this.width, (clientHeight - 32) / this.height, ZOOM.most);
  }

  fit() {
    const { clientWidth, clientHeight } = this.#viewport;
    this.scale = this.#fitting;
    this.x = (clientWidth - this.width * this.scale) / 2;
    this.y = (clientHeight - this.height * this.scale) / 2;
    this.#place();
    this.#isFitted = true;
  }

  /** Zooms by steps around a point of the viewport, its middle if none is given. */
  zoom(steps, at = { x: this.#viewport.clientWidth / 2, y: this.#viewport.clientHeight / 2 }) {
    this.enlarge(ZOOM.step ** steps, at);
  }

  /** Makes the picture `factor` times as large around a point of the viewport. */
  enlarge(factor, at) {
    const least = Math.min(ZOOM.least, this.#fitting || ZOOM.least); // a panorama is on the screen at less
    const scale = Math.min(ZOOM.most, Math.max(least, this.scale * factor));
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#place();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#place();
  }

  /** Width in px of a border that is about a pixel wide on the screen. */
  get #suitingEdge() {
    return Math.max(1, Math.round(1 / Math.max(this.scale, ZOOM.least)));
  }

  /** Where one has zoomed so far that borders hide what they are to show, or are lost, paints all with others. */
  suitEdges() {
    const onScreen = this.edge * this.scale;
    if ((onScreen < EDGES.most && onScreen > EDGES.least) || this.edge === this.#suitingEdge) return;
    this.edge = this.#suitingEdge;
    const all = { x0: 0, y0: 0, x1: this.width, y1: this.height };
    this.repaint(all);
    this.paintActive(all);
  }

  /** The part of the image on the screen, {x0, y0, x1, y1} in whole px; null when there is none. */
  get visible() {
    const { clientWidth, clientHeight } = this.#viewport;
    const [x0, y0] = [Math.floor(-this.x / this.scale), Math.floor(-this.y / this.scale)];
    const [x1, y1] = [Math.ceil((clientWidth - this.x) / this.scale), Math.ceil((clientHeight - this.y) / this.scale)];
    return clip({ x0, y0, x1, y1 }, 0, this.width, this.height);
  }

  /** Image coordinates of a mouse event. */
  imagePoint({ clientX, clientY }) {
    const { left, top } = this.#viewport.getBoundingClientRect();
    return { x: (clientX - left - this.x) / this.scale, y: (clientY - top - this.y) / this.scale };
  }

  viewPoint({ clientX, clientY }) {
    const { left, top } = this.#viewport.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  }

  /** Moves the picture so that an image point is on the screen. */
  reveal({ x, y }) {
    const { clientWidth, clientHeight } = this.#viewport;
    const [vx, vy] = [x * this.scale + this.x, y * this.scale + this.y];
    const margin = 24;
    this.x += Math.max(0, margin - vx) - Math.max(0, vx - clientWidth + margin);
    this.y += Math.max(0, margin - vy) - Math.max(0, vy - clientHeight + margin);
    this.#place();
  }

  #place() {
    this.#isFitted = false;
    this.#paper.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.#paper.classList.toggle("pixelated", this.scale >= 3);
    this.draw();
    this.onMove();
  }

  #resize() {
    if (this.#isFitted && this.width) this.fit();
    this.draw();
    this.onMove();
  }

  // --- masks --------------------------------------------------------------------------------------------------------

  /** Replaces the saved masks: [{id, mask, colour}]. */
  setMasks(masks) {
    this.#masks = new Map(masks.map((entry) => [entry.id, this.#entry(entry)]));
    this.repaint({ x0: 0, y0: 0, x1: this.width, y1: this.height });
  }

  setMask(entry) {
    const before = this.#masks.get(entry.id)?.box;
    this.#masks.set(entry.id, this.#entry(entry));
    this.repaint(union(before, this.#masks.get(entry.id).box));
  }

  removeMask(id) {
    const box = this.#masks.get(id)?.box;
    this.#masks.delete(id);
    this.repaint(box);
  }

  #entry({ id, mask, colour, hidden }) {
    let area = 0;
    eachStrip(mask, this.height, (x, top, bottom) => (area += bottom - top));
    return { id, mask, box: boxOf(mask, this.height), area, colour, hidden };
  }

  /** Paints the saved masks inside a box anew, the largest first, so that smaller ones lie on top. */
  repaint(box) {
    const shown = [...this.#masks.values()].filter((entry) => entry.box && !entry.hidden).sort((a, b) => b.area - a.area);
    this.#inBands(this.#saved, box, (colours, band) => {
      for (const entry of shown) if (overlap(entry.box, band)) this.#paint(colours, band, entry);
    });
  }

  /** Paints a layer anew inside a box, and a border around it: `paint(colours, band)` makes each band, column after column. */
  #inBands(layer, box, paint) {
    const around = box && clip(box, this.edge, this.width, this.height);
    if (!around) return;
    const context = layer.getContext("2d");
    const rows = around.y1 - around.y0;
    for (let x0 = around.x0; x0 < around.x1; x0 += BAND) {
      const columns = Math.min(BAND, around.x1 - x0);
      const colours = new Uint32Array(columns * rows);
      paint(colours, { ...around, x0, x1: x0 + columns });
      context.putImageData(asImage(colours, columns, rows), x0, around.y0);
    }
  }

  /** One mask into the pixels of a band: a translucent fill and a border `edge` px wide. */
  #paint(colours, { x0, y0, x1, y1 }, { mask, colour }) {
    const [fill, edge] = [rgba(colour, FILL), rgba(colour, EDGE)];
    const w = this.edge;
    const strips = new Map(); // column -> [[top, bottom]]
    const keep = (x, ...strip) => (strips.has(x) ? strips.get(x).push(strip) : strips.set(x, [strip]));
    eachStrip(mask, this.height, keep, Math.max(0, x0 - w), x1 + w);
    const put = (value, x, top, bottom) => {
      const above = (x - x0) * (y1 - y0) - y0;
      if (top < y1 && bottom > y0) colours.fill(value, above + Math.max(top, y0), above + Math.min(bottom, y1));
    };
    const paintStrip = (x, top, bottom) => {
      put(edge, x, top, bottom);
      for (const [a, b] of strips.get(x - w) ?? []) {
        if (a >= bottom || b <= top) continue;
        for (const [c, d] of strips.get(x + w) ?? []) put(fill, x, Math.max(top + w, a, c), Math.min(bottom - w, b, d));
      }
    };
    eachStrip(mask, this.height, paintStrip, x0, x1);
  }

  setShowSaved(shown) {
    this.showSaved = shown;
    this.#saved.classList.toggle("hidden", !shown);
  }

  /** Paints the mask in work inside a box. */
  paintActive(box) {
    this.#inBands(this.#active, box, (colours, band) => this.#paintWork(colours, band));
  }

  #paintWork(colours, { x0, y0, x1, y1 }) {
    const { final } = this.#editor;
    const { width, height, edge: w } = this;
    const [fill, edge] = [rgba(ACTIVE, ACTIVE_FILL), rgba(ACTIVE, 255)];
    for (let x = x0; x < x1; x++) {
      for (let y = y0, at = x * height + y, place = (x - x0) * (y1 - y0); y < y1; y++, at++, place++) {
        if (!final[at]) continue;
        const isEdge =
          (x >= w && !final[at - w * height]) ||
          (x < width - w && !final[at + w * height]) ||
          (y >= w && !final[at - w]) ||
          (y < height - w && !final[at + w]);
        colours[place] = isEdge ? edge : fill;
      }
    }
  }

  // --- overlay ------------------------------------------------------------------------------------------------------

  draw() {
    const context = this.#clearOverlay();
    const { points, box, cursor } = this.overlay;
    if (box) this.#drawBox(context, box);
    for (const point of points) this.#drawPoint(context, point);
    if (cursor) this.#drawCursor(context, cursor);
  }

  /** An empty overlay as fine as the screen, which may be another one than a moment ago, for px of the viewport. */
  #clearOverlay() {
    const overlay = this.#overlay;
    const context = overlay.getContext("2d");
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.#viewport.clientWidth, this.#viewport.clientHeight].map((side) => Math.round(side * ratio));
    if (overlay.width !== width || overlay.height !== height) [overlay.width, overlay.height] = [width, height];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  #drawPoint(context, [x, y, label]) {
    const [vx, vy] = [x * this.scale + this.x, y * this.scale + this.y];
    context.beginPath();
    context.arc(vx, vy, 6, 0, 2 * Math.PI);
    context.fillStyle = label ? "#35d07f" : "#ff5c6c";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(vx - 3, vy);
    context.lineTo(vx + 3, vy);
    if (label) {
      context.moveTo(vx, vy - 3);
      context.lineTo(vx, vy + 3);
    }
    context.stroke();
  }

  #drawBox(context, [x0, y0, x1, y1]) {
    const rectangle = [x0 * this.scale + this.x, y0 * this.scale + this.y, (x1 - x0) * this.scale, (y1 - y0) * this.scale];
    context.lineWidth = 3;
    context.strokeStyle = "#000a";
    context.strokeRect(...rectangle);
    context.lineWidth = 1.5;
    context.strokeStyle = "#fff";
    context.strokeRect(...rectangle);
  }

  #drawCursor(context, { x, y, diameter, crosshair }) {
    const [vx, vy] = [x * this.scale + this.x, y * this.scale + this.y];
    for (const [width, colour] of [[3, "#000a"], [1.25, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      if (diameter) context.arc(vx, vy, Math.max(1, (diameter / 2) * this.scale), 0, 2 * Math.PI);
      if (crosshair) {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(vx + 4 * dx, vy + 4 * dy);
          context.lineTo(vx + 14 * dx, vy + 14 * dy);
        }
      }
      context.stroke();
    }
  }
}

/** A colour for a mask id: the same one on every screen. */
export function colourOf(id) {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  const hue = ((hash >>> 0) % 360) / 60;
  const lightness = LIGHTNESS[(hash >>> 16) % LIGHTNESS.length];
  const channel = (n) => {
    const k = (n + hue * 2) % 12;
    return Math.round(255 * (lightness - 0.9 * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

function rgba([r, g, b], alpha) {
  return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0; // little-endian, as every machine with a browser is
}

/** Colours that stand column after column, as a canvas takes them. */
function asImage(colours, columns, rows) {
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let x = 0, at = 0; x < columns; x++) {
    for (let place = x; place < pixels.length; place += columns, at++) pixels[place] = colours[at];
  }
  return image;
}

function clip({ x0, y0, x1, y1 }, by, width, height) {
  const box = { x0: Math.max(0, x0 - by), y0: Math.max(0, y0 - by), x1: Math.min(width, x1 + by), y1: Math.min(height, y1 + by) };
  return box.x0 < box.x1 && box.y0 < box.y1 ? box : null;
}

function overlap(a, b) {
  return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
}
