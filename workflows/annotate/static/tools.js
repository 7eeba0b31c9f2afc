// Pointer and crosshair to the mask in work. A tool is used the same way by mouse, pen, finger and keyboard.

import { Fingers, isStill } from "./fingers.js";

export const TOOLS = [
  ["points", "P", "Points", "M12 3v6M12 15v6M3 12h6M15 12h6"],
  ["box", "R", "Box", "M4 6h16v12H4z"],
  ["brush", "B", "Brush", "M4 20c4 1 6-1 6-4M9 14 19 4l2 2-10 10z"],
  ["eraser", "E", "Eraser", "m4 15 9-9 7 7-7 7H8zM13 20h8"],
  ["select", "V", "Choose a mask", "m6 3 13 8-6 2-3 6z"],
  ["pan", "M", "Move the picture", "M12 3v18M3 12h18M12 3 9 6M12 3l3 3M12 21l-3-3M12 21l3-3M3 12l3-3M3 12l3 3M21 12l-3-3M21 12l-3 3"],
];
const CURSORS = { brush: "brushing", eraser: "brushing", pan: "panning", select: "selecting" };
const STEP = { near: 1, far: 20 };
const [NOTCH, PINCH] = [60, 22]; // px that the wheel turns for a step of zoom; that a pinch does, which says Ctrl

export class Tools {
  tool = "points";
  brushSize = 20;
  #view;
  #fingers;
  #drag = null;
  #stretch = 1; // of the gesture so far
  #pointer = null; // where the mouse is, image px
  crosshair = null; // where the keyboard is, image px; null until arrows are used
  #corner = null; // first corner of a box made by keyboard

  /** `act` gets what the tools do: addPoint(x, y, label), setBox(box), beginStroke, stroke, endStroke, choose(x, y). */
  constructor(view, viewport, act) {
    this.#view = view;
    this.#fingers = new Fingers(view);
    this.viewport = viewport;
    this.act = act;
    viewport.addEventListener("pointerdown", (event) => this.#down(event));
    viewport.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) viewport.addEventListener(name, (event) => this.#up(event));
    viewport.addEventListener("pointerleave", () => ((this.#pointer = null), this.refresh()));
    for (const name of ["contextmenu", "mousedown"]) viewport.addEventListener(name, (event) => event.preventDefault()); // no menu, no text chosen
    viewport.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    for (const name of ["gesturestart", "gesturechange"]) viewport.addEventListener(name, (event) => this.#gesture(event));
  }

  /** Whether a pointer is in the middle of something. */
  get isBusy() {
    return this.#drag !== null;
  }

  get paints() {
    return this.tool === "brush" || this.tool === "eraser";
  }

  select(tool) {
    this.tool = tool;
    this.#corner = null;
    this.viewport.className = CURSORS[tool] ?? "";
    this.refresh();
  }

  resizeBrush(size) {
    this.brushSize = Math.round(Math.min(300, Math.max(1, size)));
    this.refresh();
  }

  /** Draws cursor, prompts and the box being dragged. */
  refresh() {
    const model = this.act.model();
    const place = this.#pointer ?? this.crosshair;
    const diameter = this.paints ? this.brushSize : 0;
    const dragged = this.#drag?.box ?? (this.#corner && this.crosshair && boxBetween(this.#corner, this.crosshair));
    this.#view.overlay = {
      points: model.points,
      box: dragged ?? model.box,
      cursor: place && { ...place, diameter, crosshair: !this.#pointer && Boolean(this.crosshair) },
    };
    this.#view.draw();
  }

  #down(event) {
    const isTouch = event.pointerType === "touch";
    if (this.#drag?.pointer === event.pointerId) this.#up(event); // whose end was missed
    if (isTouch) this.#fingers.put(event);
    if (this.#drag && !this.#givesWay(event)) return; // another finger
    this.viewport.focus({ preventScroll: true });
    this.viewport.setPointerCapture(event.pointerId);
    this.crosshair = null;
    if (!isTouch) this.#begin(event);
    else this.#drag = { kind: this.#fingers.count > 1 ? "pinch" : "finger", down: event, pointer: event.pointerId };
    this.refresh();
  }

  /** Whether a finger that has done nothing yet makes place: for a second one, or for a pen beside the palm of a hand. */
  #givesWay({ pointerType }) {
    return pointerType !== "mouse" && ["finger", "pinch"].includes(this.#drag.kind);
  }

  #begin(event) {
    const at = this.#view.imagePoint(event);
    this.#drag = null;
    if (event.button === 1 || this.tool === "pan") this.#drag = { kind: "pan", last: event };
    else if (this.tool === "points") this.act.addPoint(at.x, at.y, isBackground(event) ? 0 : 1);
    else if (event.button !== 0) return;
    else if (this.tool === "box") this.#drag = { kind: "box", from: at, box: null };
    else if (this.tool === "select") this.act.choose(at.x, at.y);
    else this.#beginStroke(at);
    if (this.#drag) this.#drag.pointer = event.pointerId;
  }

  #beginStroke(at) {
    this.#drag = { kind: "stroke", last: at };
    this.act.beginStroke();
    this.act.stroke(at, at, this.brushSize, this.tool === "brush");
  }

  #move(event) {
    if (this.#drag?.kind === "pinch") return this.#fingers.pinch(event);
    if (this.#drag && this.#drag.pointer !== event.pointerId) return;
    if (this.#drag?.kind === "finger") {
      if (isStill(this.#drag.down, event)) return;
      this.#begin(this.#drag.down);
    }
    const drag = this.#drag;
    this.#pointer = this.#view.imagePoint(event);
    if (drag?.kind === "pan") {
      this.#view.pan(event.clientX - drag.last.clientX, event.clientY - drag.last.clientY);
      drag.last = event;
    } else if (drag?.kind === "box") {
      drag.box = boxBetween(drag.from, this.#pointer);
    } else if (drag?.kind === "stroke") {
      for (const step of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
        const at = this.#view.imagePoint(step);
        this.act.stroke(drag.last, at, this.brushSize, this.tool === "brush");
        drag.last = at;
      }
    }
    this.refresh();
  }

  #up(event) {
    this.#fingers.lift(event);
    if (this.#drag && this.#drag.pointer !== event.pointerId && this.#drag.kind !== "pinch") return;
    if (this.#drag?.kind === "finger" && event.type === "pointerup") this.#begin(this.#drag.down);
    const drag = this.#drag;
    this.#drag = null;
    if (drag?.kind === "stroke") this.act.endStroke(this.tool === "brush", this.brushSize);
    if (drag?.kind === "box" && drag.box && drag.box[2] - drag.box[0] > 1 && drag.box[3] - drag.box[1] > 1) this.act.setBox(drag.box);
    this.refresh();
  }

  #wheel(event) {
    event.preventDefault();
    const step = event.ctrlKey ? PINCH : NOTCH;
    this.#view.zoom(-Math.sign(event.deltaY) * Math.min(1, Math.abs(event.deltaY) / step), this.#view.viewPoint(event));
    this.refresh();
  }

  /** A pinch on the trackpad of a Mac, as Safari says it. Two fingers on a tablet's screen say it, too. */
  #gesture(event) {
    event.preventDefault();
    if (event.type === "gesturechange" && !this.#drag) this.#view.enlarge(event.scale / this.#stretch, this.#view.viewPoint(event));
    this.#stretch = event.scale;
    this.refresh();
  }

  /** Arrow keys and Space; whether the key was one of them. */
  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      if (event.ctrlKey || event.metaKey) this.#view.pan(-60 * dx, -60 * dy);
      else this.#moveCrosshair(dx, dy, event.shiftKey ? STEP.far : STEP.near);
    } else if (event.key === " ") this.#useAtCrosshair(event.shiftKey);
    else return false;
    this.refresh();
    return true;
  }

  #moveCrosshair(dx, dy, pixels) {
    const { width, height, scale } = this.#view;
    const step = pixels * Math.max(1, 1 / scale);
    const from = this.crosshair ?? this.#pointer ?? { x: width / 2, y: height / 2 };
    this.crosshair = {
      x: Math.min(width, Math.max(0, from.x + dx * step)),
      y: Math.min(height, Math.max(0, from.y + dy * step)),
    };
    this.#pointer = null;
    this.#view.reveal(this.crosshair);
  }

  #useAtCrosshair(background) {
    if (!this.crosshair) this.#moveCrosshair(0, 0, 0);
    const at = this.crosshair;
    if (this.tool === "points") this.act.addPoint(at.x, at.y, background ? 0 : 1);
    else if (this.tool === "select") this.act.choose(at.x, at.y);
    else if (this.tool === "box" && this.#corner) {
      this.act.setBox(boxBetween(this.#corner, at));
      this.#corner = null;
    } else if (this.tool === "box") this.#corner = at;
    else if (this.paints) {
      this.act.beginStroke();
      this.act.stroke(at, at, this.brushSize, this.tool === "brush");
      this.act.endStroke(this.tool === "brush", this.brushSize);
    }
  }
}

/** A right click, which with one button is a click with Ctrl, or a click with Shift or Alt. */
function isBackground({ button, ctrlKey, shiftKey, altKey }) {
  return button === 2 || ctrlKey || shiftKey || altKey;
}

function boxBetween(a, b) {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}
