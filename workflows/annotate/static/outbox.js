// Nothing drawn is lost: every save lies in this browser's IndexedDB until the server says it is on disk, and so does
// the mask being drawn. Saves carry names made here (session and part), so sending one twice is harmless, and the task
// that they were made for, so that a server of another round does not take them for its own. This page sends its own saves
// from memory, so that those are not lost which a full disk does not take, or which go when site data is cleared.

import * as api from "./api.js";
import { Store } from "./store.js";

const [OTHER_TOKEN, ELSEWHERE, TOO_LARGE] = [401, 421, 413]; // a server of another data set: the save waits for its own
/** How the server itself says that it will never take a save. All else, as of a proxy or another program, passes. */
const FINAL = [400, 409, TOO_LARGE, 422];
const MOST = { masks: 1000, characters: 9e5 }; // in one part: proxies take 1 MB where nobody says otherwise
const WHY = {
  [ELSEWHERE]: "this server has another data set",
  [OTHER_TOKEN]: "this server asks for another token",
  [TOO_LARGE]: "a proxy takes no save of this size",
};
const RETRY = { first: 1000, longest: 15000 };

/** Masks as the server takes them at once; one empty part where there are none. */
function inParts(masks) {
  const parts = [[]];
  let characters = 0;
  for (const mask of masks) {
    const own = JSON.stringify(mask).length;
    characters += own;
    if (parts.at(-1).length === MOST.masks || characters > MOST.characters) {
      parts.push([]);
      characters = own;
    }
    parts.at(-1).push(mask);
  }
  return parts;
}

export class Outbox {
  #store;
  #task;
  #session;
  #annotator;
  #part = 0;
  #sequence = 0;
  #events = [];
  #sending = Promise.resolve();
  #timer = 0;
  #pause = RETRY.first;
  #storing = 0; // saves on their way into the browser's store
  #unsent = new Map(); // part -> {save, isKept}: saves of this page that the server does not have, and whether the store does
  /** Called with {waiting, offline, why, refused, full} whenever that changes. */
  onChange = () => {};
  waiting = 0;
  offline = false;
  /** Why a server that is there takes nothing of this page now. */
  why = "";
  refused = "";
  /** Why this browser keeps nothing: what waits is lost when the page is closed. */
  full = "";

  static async create(task, annotator) {
    const outbox = new Outbox();
    outbox.#store = await Store.open();
    outbox.#task = task;
    outbox.#annotator = annotator;
    const slug = annotator.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 30) || "annotator";
    outbox.#session = `${slug}-${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
    outbox.waiting = (await outbox.#keysOfOthers())?.length ?? 0;
    addEventListener("online", () => outbox.flush());
    outbox.flush();
    return outbox;
  }

  /** Notes an event; it travels with the next save. */
  event(action, active, { image = null, mask = null, details = {} } = {}) {
    this.#events.push({
      sequence: ++this.#sequence,
      image_id: image,
      mask_id: mask,
      action,
      active: Math.round(active * 1000) / 1000,
      details,
      happened_at: api.moment(),
    });
  }

  /**
   * Keeps masks and all events so far, here first, then on the server. Resolves when they are as safe as they can be here.
   * A mask that was in work on the image `drawnOn` takes the place of its draft.
   */
  async save(masks = [], drawnOn = null) {
    if (!masks.length && !this.#events.length) return;
    const events = this.#events;
    this.#events = [];
    const parts = inParts(masks).map((some, at, all) => this.#savePart(some, at < all.length - 1 ? [] : events, drawnOn));
    await Promise.all(parts);
    this.flush();
  }

  async #savePart(masks, events, drawnOn) {
    const body = { annotator: this.#annotator, task: this.#task, masks, events };
    const save = { session: this.#session, part: ++this.#part, body };
    this.#storing++;
    this.#change({ waiting: this.waiting + 1 });
    const key = this.#keyOf(save);
    // both or neither, so that a reload finds the mask once; and the draft of what is drawn meanwhile waits for its turn
    const change = (outbox, drafts) => (drawnOn && drafts.delete(this.#draftKey(drawnOn)), outbox.put(save, key));
    const isKept = await this.#keep(["outbox", "drafts"], change);
    this.#unsent.set(save.part, { save, isKept });
    this.#storing--;
  }

  /** Changes something in this browser's store; whether that worked. */
  async #keep(names, change) {
    try {
      await this.#store.write(names, change);
      if ([...this.#unsent.values()].every(({ isKept }) => isKept)) this.#change({ full: "" });
      return true;
    } catch (error) {
      this.#change({ full: error.message || error.name });
      return false;
    }
  }

  /** What the store says; null where it cannot be read, which keeps nobody from work. */
  async #read(name, request) {
    try {
      return await this.#store.read(name, request);
    } catch (error) {
      this.#change({ full: error.message || error.name });
      return null;
    }
  }

  /** Sends what waits, oldest first. Resolves when all that waited at the call is sent, or the server is away. */
  flush() {
    this.#sending = this.#sending.then(() => this.#sendAll());
    return this.#sending;
  }

  /** One pass over what waits; another one follows later while the server cannot be reached. */
  async #sendAll() {
    try {
      for (const key of await this.#count()) await this.#sendKept(key);
      for (const own of this.#unsent.values()) await this.#sendOwn(own);
      this.#pause = RETRY.first;
      await this.#count();
      this.#change({ offline: false, why: "" });
    } catch (error) {
      this.#change({ offline: true, why: WHY[error.status] ?? "" });
      if (this.waiting) this.#store.hold();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.flush(), this.#pause);
      this.#pause = Math.min(RETRY.longest, this.#pause * 2);
    }
  }

  /** Counts what waits, that of other tabs, too: else all would seem to be saved once as many are. Names of the others'. */
  async #count() {
    const keys = await this.#keysOfOthers();
    if (keys) this.#change({ waiting: keys.length + this.#unsent.size + this.#storing });
    return keys ?? [];
  }

  /** Masks of an image, made for this task, that the server does not have yet. */
  async pendingMasks(image) {
    const { dataset, stage, round } = this.#task;
    const isOfThis = ({ task }) => task?.dataset === dataset && task.stage === stage && task.round === round;
    const kept = await this.#read("outbox", (store) => store.getAll());
    const own = [...this.#unsent.values()].map(({ save }) => save);
    const bodies = [...(kept ?? []).filter((save) => !this.#isUnsent(save)), ...own].map(({ body }) => body);
    return bodies.filter(isOfThis).flatMap(({ masks }) => masks).filter((mask) => mask.image_id === image);
  }

  keepDraft(image, draft) {
    const key = this.#draftKey(image);
    return this.#keep(["drafts"], (drafts) => (draft ? drafts.put(draft, key) : drafts.delete(key)));
  }

  draft(image) {
    return this.#read("drafts", (store) => store.get(this.#draftKey(image)));
  }

  /** What is drawn for one task goes on there alone: it may be an edit of what only that one shows. */
  #draftKey(image) {
    const { dataset, stage, round } = this.#task;
    return [dataset, stage, round ?? "", this.#annotator, image];
  }

  async #sendKept(key) {
    const save = await this.#read("outbox", (store) => store.get(key));
    if (!save) return; // another tab has sent it
    if (!(await this.#send(save))) return;
    await this.#store.write(["outbox"], (store) => store.delete(key));
  }

  /** A save that stays in a store which is lost meanwhile is sent once more after a reload, which is harmless. */
  async #sendOwn({ save, isKept }) {
    if ((await this.#send(save)) && isKept) await this.#keep(["outbox"], (store) => store.delete(this.#keyOf(save)));
    this.#unsent.delete(save.part);
  }

  /** Sends a save. One that the server will never take is laid aside, and said; false where there is no room for it. */
  async #send({ session, part, body }) {
    try {
      await api.save(session, part, body);
    } catch (error) {
      if (!error.isOurs || !FINAL.includes(error.status)) throw error;
      this.#change({ refused: error.message });
      const refused = { session, part, body, reason: error.message };
      if (!(await this.#keep(["refused"], (store) => store.put(refused, this.#keyOf(refused))))) return false;
    }
    this.#change({ waiting: Math.max(0, this.waiting - 1), offline: false });
    return true;
  }

  /** Names of the saves of this data set that are kept, but for those of `#unsent`; null where the store cannot be read. */
  async #keysOfOthers() {
    const keys = await this.#read("outbox", (store) => store.getAllKeys());
    const isOthers = ([dataset, session, part]) => dataset === this.#task.dataset && !this.#isUnsent({ session, part });
    return keys && keys.filter(isOthers);
  }

  #isUnsent({ session, part }) {
    return session === this.#session && this.#unsent.has(part);
  }

  #keyOf({ session, part }) {
    return [this.#task.dataset, session, part];
  }

  #change(values) {
    Object.assign(this, values);
    this.onChange(this);
  }
}
