// Fingers on the picture. Two of them move and enlarge it; what one of them does waits until it is clear that no second
// one follows.

const STILL = 6; // px of the screen that a finger moves without being meant to

export class Fingers {
  #view;
  #places = new Map(); // pointer -> where it is, px of the viewport

  constructor(view) {
    this.#view = view;
  }

  get count() {
    return this.#places.size;
  }

  put(event) {
    if (event.isPrimary && !this.#places.has(event.pointerId)) this.#places.clear(); // the ends of others were missed
    this.#places.set(event.pointerId, this.#view.viewPoint(event));
  }

  lift({ pointerId }) {
    this.#places.delete(pointerId);
  }

  /** Moves and enlarges the picture with two fingers, of which one has moved. */
  pinch(event) {
    if (this.count < 2 || !this.#places.has(event.pointerId)) return;
    const before = this.#grip();
    this.put(event);
    const after = this.#grip();
    this.#view.pan(after.x - before.x, after.y - before.y);
    this.#view.enlarge(after.reach / before.reach, after);
  }

  /** The middle between two fingers, and how far they are apart. */
  #grip() {
    const [a, b] = this.#places.values();
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, reach: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }
}

/** Whether a finger is still where it was put down. */
export function isStill(down, event) {
  return Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) <= STILL;
}
