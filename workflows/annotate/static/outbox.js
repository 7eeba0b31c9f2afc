// Nothing drawn is lost: every save lies in this browser's IndexedDB until the server says it is on disk, and so does
// the mask being drawn. Saves carry names made here (session and part), so sending one twice is harmless.

import * as api from "./api.js";

const RETRY = { first: 1000, longest: 15000 };

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("sam-engine-annotate", 1);
    request.onupgradeneeded = () => {
      for (const name of ["outbox", "drafts", "refused"]) request.result.createObjectStore(name);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Outbox {
  #database;
  #dataset;
  #session;
  #annotator;
  #part = 0;
  #sequence = 0;
  #events = [];
  #sending = Promise.resolve();
  #timer = 0;
  #pause = RETRY.first;
  #storing = 0; // saves on their way into the browser's store
  /** Called with {waiting, offline, refused} whenever that changes. */
  onChange = () => {};
  waiting = 0;
  offline = false;
  refused = "";

  static async create(dataset, annotator) {
    const outbox = new Outbox();
    outbox.#database = await open();
    outbox.#dataset = dataset;
    outbox.#annotator = annotator;
    const slug = annotator.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 30) || "annotator";
    outbox.#session = `${slug}-${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
    outbox.waiting = (await done(outbox.#store("outbox").getAllKeys())).length;
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
      happened_at: new Date().toISOString(),
    });
  }

  /** Keeps masks and all events so far, here first, then on the server. Resolves when they are safe here. */
  async save(masks = []) {
    if (!masks.length && !this.#events.length) return;
    const body = { annotator: this.#annotator, masks, events: this.#events };
    this.#events = [];
    const part = ++this.#part;
    const key = [this.#dataset, this.#session, part];
    this.#storing++;
    this.#change({ waiting: this.waiting + 1 });
    await done(this.#store("outbox", "readwrite").put({ session: this.#session, part, body }, key));
    this.#storing--;
    this.flush();
  }

  /** Sends what waits, oldest first. Resolves when all that waited at the call is sent, or the server is away. */
  flush() {
    this.#sending = this.#sending.then(() => this.#sendAll());
    return this.#sending;
  }

  /** One pass over what waits; another one follows later while the server cannot be reached. */
  async #sendAll() {
    try {
      for (const key of await this.#keys()) await this.#send(key);
      this.#pause = RETRY.first;
      const { length } = await this.#keys();
      this.#change({ offline: false, waiting: length + this.#storing });
    } catch {
      this.#change({ offline: true });
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.flush(), this.#pause);
      this.#pause = Math.min(RETRY.longest, this.#pause * 2);
    }
  }

  /** Masks of an image that the server does not have yet. */
  async pendingMasks(image) {
    const records = await done(this.#store("outbox").getAll());
    return records.flatMap(({ body }) => body.masks).filter((mask) => mask.image_id === image);
  }

  async keepDraft(image, draft) {
    const store = this.#store("drafts", "readwrite");
    const key = [this.#dataset, this.#annotator, image];
    await done(draft ? store.put(draft, key) : store.delete(key));
  }

  draft(image) {
    return done(this.#store("drafts").get([this.#dataset, this.#annotator, image]));
  }

  async #send(key) {
    const { session, part, body } = await done(this.#store("outbox").get(key));
    try {
      await api.save(session, part, body);
    } catch (error) {
      const final = error instanceof api.Refusal && error.status >= 400 && error.status < 500 && error.status !== 401;
      if (!final) throw error;
      await done(this.#store("refused", "readwrite").put({ session, part, body, reason: error.message }, key));
      this.#change({ refused: error.message });
    }
    await done(this.#store("outbox", "readwrite").delete(key));
    this.#change({ waiting: Math.max(0, this.waiting - 1), offline: false });
  }

  async #keys() {
    const keys = await done(this.#store("outbox").getAllKeys());
    return keys.filter(([dataset]) => dataset === this.#dataset);
  }

  #store(name, mode = "readonly") {
    return this.#database.transaction(name, mode).objectStore(name);
  }

  #change(values) {
    Object.assign(this, values);
    this.onChange(this);
  }
}
