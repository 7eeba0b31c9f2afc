// Prompts to candidates: in a worker here where ONNX Runtime Web is served, else by the server. One question at a time;
// while one is answered, only the newest that came meanwhile waits. The model sees the whole image, or a window of it; the
// windows of this image that it saw last stay at hand.

import * as api from "./api.js";
import { asLogits, frameOf, shows, tokens } from "./frame.js";
import { fromHalf } from "./half.js";
import { compress } from "./rle.js";

const WINDOWS_KEPT = 8;
const PATIENCE = 120_000; // milliseconds that the runtime has to come and to start, on a slow network, too

export class Decoder {
  #worker = this.#begin();
  #waiting = new Map(); // id -> {resolve, reject, first}
  #ids = 0;
  #image = null;
  #whole = null; // the frame of the whole image
  #windows = new Map(); // key -> frame, what was seen last at the end
  #seen = null; // the frame that new prompts are asked in
  #model;
  #busy = false;
  #next = null;
  /** Called with what the server did not take as given, and with why the browser decodes no more. */
  onNote = () => {};
  /** "browser" or "server"; in the browser "webgpu" or "wasm", and how many threads. */
  where = "server";
  provider = null;
  threads = 0;

  constructor(model) {
    this.#model = model;
  }

  /**
   * Fetches the graphs and starts the runtime; without it, or when it fails or does not start, the server decodes.
   * `?decoder=wasm` or `?decoder=webgpu` behind the page's address asks for one of the two.
   */
  async load() {
    if (!this.#model.browser_decoder) return;
    let late = 0;
    try {
      const names = ["prepare", "prepare_with_mask", "ask", "draw"];
      const files = await Promise.all(names.map(api.graph));
      const graphBytes = Object.fromEntries(names.map((name, i) => [name, files[i]]));
      const threads = Math.min(4, navigator.hardwareConcurrency ?? 1);
      const wanted = new URLSearchParams(location.search).get("decoder");
      const started = this.#ask("load", { graphBytes, threads, wanted });
      late = setTimeout(() => this.#lose(this.#worker, "it did not start"), PATIENCE);
      ({ provider: this.provider, threads: this.threads } = await started);
      this.where = "browser";
    } catch (error) {
      console.warn(`decoding on the server: ${error.message}`);
    } finally {
      clearTimeout(late);
    }
  }

  /** Turns to an image {image_id, width, height}, and sees all of it. */
  async open(image) {
    this.#next?.resolve(null);
    this.#next = null;
    this.#image = image;
    this.#windows.clear();
    this.#seen = this.#whole = frameOf(this.#model, image, { x0: 0, y0: 0, x1: image.width, y1: image.height });
    this.#tell("clear");
    if (this.where !== "browser") return;
    const embedding = await api.embedding(image.image_id);
    if (image === this.#image) await this.#add(this.#whole, embedding); // else another image has been turned to since
  }

  async #add(frame, embedding) {
    try {
      await this.#ask("add", { frame, embedding });
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** From the runtime's first failure on (a GPU is lost while a laptop sleeps) the server decodes. */
  #giveUp({ message }) {
    this.where = "server";
    this.onNote(`The decoder in this browser failed (${message}): the server answers now. Reload the page to try it again.`);
  }

  /** Sees a window {x0, y0, x1, y1} of the image from now on; false when it has to be brought first. */
  see(window) {
    const { key, isWhole } = frameOf(this.#model, this.#image, window);
    const frame = isWhole ? this.#whole : this.#windows.get(key);
    if (!frame) return false;
    this.#seen = frame;
    this.#keep(frame);
    return true;
  }

  /** Brings a window of the image to where clicks are decoded. What is seen stays as it is meanwhile. */
  async bring(window) {
    const image = this.#image;
    const frame = frameOf(this.#model, image, window);
    const isHere = this.where === "browser";
    const embedding = await (isHere ? api.embedding : api.embed)(image.image_id, frame.key);
    if (image !== this.#image) return;
    if (isHere) await this.#add(frame, embedding);
    if (image !== this.#image) return;
    this.#keep(this.#seen);
    this.#keep(frame);
  }

  /** Makes a frame the newest of those that stay at hand; the whole image always does. */
  #keep(frame) {
    if (frame.isWhole) return;
    this.#windows.delete(frame.key);
    this.#windows.set(frame.key, frame);
    for (const key of [...this.#windows.keys()].slice(0, -WINDOWS_KEPT)) {
      this.#windows.delete(key);
      this.#tell("drop", { key });
    }
  }

  /**
   * The frame that a prompt is asked in: what is seen if all of the prompt lies there, else that of the answer before,
   * else the whole image. A mask in work is never cut off.
   */
  frameFor(prompt) {
    const before = this.#windows.get(prompt.previous?.frame);
    return [this.#seen, before].find((frame) => frame && shows(frame, prompt)) ?? this.#whole;
  }

  /**
   * Candidates for a prompt {points: [[x, y, label]], box, text, previous: candidate or null, base: mask or null}; one
   * with a text is always for the server. A candidate is {iou, logits, mask, frame: key of the one it was seen in}.
   * `onFirst` gets the best one as soon as its mask is there, without its logits. Resolves to null when a newer prompt
   * took its place.
   */
  decode(prompt, onFirst) {
    return new Promise((resolve, reject) => {
      this.#next?.resolve(null);
      this.#next = { prompt, onFirst, resolve, reject };
      this.#work();
    });
  }

  async #work() {
    if (this.#busy || !this.#next) return;
    const { prompt, onFirst, resolve, reject } = this.#next;
    this.#next = null;
    this.#busy = true;
    try {
      resolve(await this.#answer(prompt, onFirst));
    } catch (error) {
      reject(error);
    } finally {
      this.#busy = false;
      this.#work();
    }
  }

  async #answer(prompt, onFirst) {
    const image = this.#image;
    if (this.where === "browser" && !prompt.text) {
      try {
        return await this.#here(prompt, onFirst);
      } catch (error) {
        this.#giveUp(error);
      }
    }
    return image === this.#image ? this.#there(prompt, onFirst) : null;
  }

  /** Logits belong to the frame they were made in: into another one goes the mask itself, so while they are on their way. */
  #here(prompt, onFirst) {
    const frame = this.frameFor(prompt);
    const { previous, base } = prompt;
    const logits = (previous?.frame === frame.key && previous.logits) || (base && asLogits(frame, base));
    return this.#ask("decode", { frame, ...tokens(frame, prompt), previous: logits, single: isSingle(prompt) }, onFirst);
  }

  async #there(prompt, onFirst) {
    const { points, box, text, base } = prompt;
    const frame = this.frameFor(prompt);
    const window = frame.isWhole ? null : frame.key.split(",").map(Number);
    const asked = { image_id: this.#image.image_id, window, points, box, text, mask: base && compress(base) };
    const { logits, iou, note } = await api.decode({ ...asked, output: "logits" });
    if (note) this.onNote(note);
    const bits = Uint8Array.from(atob(logits), (c) => c.charCodeAt(0));
    const values = fromHalf(new Uint16Array(bits.buffer));
    return this.#ask("finish", { frame, logits: values, iou, single: isSingle(prompt) }, onFirst);
  }

  /** A candidate drawn by so much (of its logits) wider or tighter all around, in the frame that it was seen in. */
  async moved(candidate, by) {
    const [x0, y0, x1, y1] = candidate.frame.split(",").map(Number);
    const frame = frameOf(this.#model, this.#image, { x0, y0, x1, y1 });
    return { ...candidate, ...(await this.#ask("move", { frame, logits: candidate.logits, by })) };
  }

  #ask(call, args, first) {
    const id = ++this.#ids;
    this.#worker ??= this.#begin();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, first });
      this.#worker.postMessage({ id, call, args });
    });
  }

  /** Has something forgotten, which a worker that is lost has done. */
  #tell(call, args) {
    this.#ask(call, args).catch(() => {});
  }

  /** A worker that cannot be loaded, as while the server is away, answers nobody: the next question begins another one. */
  #begin() {
    const worker = new Worker(new URL("./decoder_worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = () => this.#lose(worker, "its worker could not be loaded");
    return worker;
  }

  #lose(worker, why) {
    worker.terminate();
    if (worker !== this.#worker) return;
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) reject(new Error(why));
    this.#waiting.clear();
  }

  #receive({ id, result, error, first, milliseconds }) {
    const asked = this.#waiting.get(id);
    if (first) return asked?.first?.(first, milliseconds);
    this.#waiting.delete(id);
    if (error) asked.reject(new Error(error));
    else asked.resolve(result);
  }
}

function isSingle({ points, box, text, previous, base }) {
  return !previous && !base && points.length + (box ? 1 : 0) + (text ? 1 : 0) === 1;
}

