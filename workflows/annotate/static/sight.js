// What one zooms to is what the model sees: the window around the visible part of the image, once the view has settled;
// borders are as wide as suits it.

import { complain } from "./panel.js";
import { windowAround } from "./windows.js";

const PAUSE = 150; // milliseconds without a movement after which the view has settled
const ZOOM = 2; // a window shows twice what is visible, so that small movements need no other one

export class Sight {
  #desk;
  #timer = 0; // 0 when the view has settled
  #bringing = false;

  constructor(desk) {
    this.#desk = desk;
  }

  /** Begins to follow the view. */
  follow() {
    this.#desk.view.onMove = () => {
      document.documentElement.dataset.settled = "false";
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#settle(), PAUSE);
    };
  }

  #settle() {
    this.#timer = 0;
    if (this.#desk.editor) this.#desk.view.suitEdges();
    if (this.#isThere()) this.#show();
    else this.#bring();
  }

  #show() {
    this.#desk.onWork();
    document.documentElement.dataset.settled = !this.#timer;
  }

  /** One window at a time, until the model sees the one that is looked at; whoever moves on is not waited for. */
  async #bring() {
    if (this.#bringing) return;
    this.#bringing = true;
    const { decoder, editor } = this.#desk;
    try {
      while (!this.#timer && !this.#isThere()) await decoder.bring(this.#window);
    } catch (error) {
      if (editor === this.#desk.editor) complain(`The model cannot look closer: ${error.message}`);
    } finally {
      this.#bringing = false;
    }
    this.#show();
  }

  /** Whether there is nothing to bring: no image, none of it visible, or the model sees what is. */
  #isThere() {
    const { editor, view, decoder } = this.#desk;
    return !editor || !view.visible || decoder.see(this.#window);
  }

  get #window() {
    const { view } = this.#desk;
    return windowAround(view, view.visible, ZOOM);
  }
}
