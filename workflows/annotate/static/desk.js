// What lies before the annotator: an image, its masks, the mask in work, and the notes about what is done to them.

import { newId, toServer } from "./masks.js";

const DRAFT_PAUSE = 120; // milliseconds

export class Desk {
  /** The image as the queue describes it; null when none is open. */
  item = null;
  /** The mask in work; null when no image is open. */
  editor = null;
  /** Saved masks and proposals, as in masks.js. */
  masks = [];
  /** Whether the model has yet to answer. */
  busy = false;
  #draftTimer = 0;
  #answersToCome = 0;
  /** Called when the mask in work, or the list of masks, is to be shown anew. */
  onWork = () => {};
  onMasks = () => {};

  constructor({ project, annotator, outbox, clock, view, decoder }) {
    Object.assign(this, { project, annotator, outbox, clock, view, decoder });
  }

  /** Says that an answer of the model is waited for, or one less: several may be at a time. */
  setBusy(busy) {
    this.#answersToCome += busy ? 1 : -1;
    this.busy = this.#answersToCome > 0;
    document.documentElement.dataset.busy = this.busy;
    this.onWork();
  }

  clear() {
    [this.item, this.editor, this.masks] = [null, null, []];
    this.refresh();
  }

  refresh() {
    this.onMasks();
    this.onWork();
  }

  /** Notes what was done, with the working time since the note before. */
  note(action, about = {}) {
    this.outbox.event(action, this.clock.takeEvent(), { image: this.item?.image_id ?? null, ...about });
  }

  /** A mask of this image as the server takes it. */
  row(entry, work) {
    return toServer(entry, this.item.image_id, work);
  }

  /** Keeps the mask in work in this browser, a moment after it changed. */
  changed() {
    this.onWork();
    clearTimeout(this.#draftTimer);
    const [image, editor] = [this.item.image_id, this.editor];
    document.documentElement.dataset.kept = "false";
    const timer = setTimeout(async () => {
      editor.id ??= newId();
      const isKept = await this.outbox.keepDraft(image, editor.draft());
      if (isKept && timer === this.#draftTimer) document.documentElement.dataset.kept = "true"; // nothing changed meanwhile
    }, DRAFT_PAUSE);
    this.#draftTimer = timer;
  }
}
