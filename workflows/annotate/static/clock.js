// Working time: the time between actions of a person, of which a long silence counts only its first seconds.

const SILENCE = 15; // seconds

export class Clock {
  #last = performance.now();
  #sinceEvent = 0;
  #sinceMask = 0;
  /** Called once per mask when it takes longer than `limit` seconds. */
  onReminder = () => {};
  #reminded = false;

  constructor(limit) {
    this.limit = limit;
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      addEventListener(name, () => this.tick(), { passive: true, capture: true });
    }
    setInterval(() => this.#check(), 1000);
  }

  /** A person did something. */
  tick() {
    const now = performance.now();
    const seconds = Math.min(SILENCE, (now - this.#last) / 1000);
    this.#last = now;
    this.#sinceEvent += seconds;
    this.#sinceMask += seconds;
  }

  /** Working seconds since the event before. */
  takeEvent() {
    this.tick();
    const seconds = this.#sinceEvent;
    this.#sinceEvent = 0;
    return seconds;
  }

  /** Working seconds on the mask in work, which ends here. */
  takeMask() {
    this.tick();
    const seconds = this.#sinceMask;
    this.restart();
    return seconds;
  }

  /** A new image or mask begins: what went before does not belong to it. */
  restart() {
    this.#last = performance.now();
    this.#sinceMask = 0;
    this.#reminded = false;
  }

  /** Seconds since a person did something. */
  get silence() {
    return (performance.now() - this.#last) / 1000;
  }

  get maskSeconds() {
    return this.#sinceMask + Math.min(SILENCE, (performance.now() - this.#last) / 1000);
  }

  #check() {
    if (this.#reminded || document.hidden || this.maskSeconds < this.limit) return;
    this.#reminded = true;
    this.onReminder();
  }
}
