// Prompts to candidates: in a worker here where ONNX Runtime Web is served, else by the server. One question at a time;
// while one is answered, only the newest that came meanwhile waits.

import * as api from "./api.js";
import { fromHalf } from "./half.js";
import { compress, eachStrip } from "./rle.js";

const MASK_LOGIT = 8;

export class Decoder {
  #worker = new Worker(new URL("./decoder_worker.js", import.meta.url), { type: "module" });
  #waiting = new Map(); // id -> {resolve, reject, first}
  #ids = 0;
  #image = null;
  #model;
  #busy = false;
  #next = null;
  /** Called with what the server did not take as given. */
  onNote = () => {};
  /** "browser" or "server"; in the browser "webgpu" or "wasm", and how many threads. */
  where = "server";
  provider = null;
  threads = 0;

  constructor(model) {
    this.#model = model;
    this.#worker.onmessage = ({ data }) => this.#receive(data);
  }

  /**
   * Fetches the graphs and starts the runtime; without it, or when it fails, the server decodes. `?decoder=wasm` or
   * `?decoder=webgpu` behind the page's address asks for one of the two.
   */
  async load() {
    if (!this.#model.browser_decoder) return;
    try {
      const names = ["prepare", "prepare_with_mask", "decode"];
      const files = await Promise.all(names.map(api.graph));
      const graphBytes = Object.fromEntries(names.map((name, i) => [name, files[i]]));
      const threads = Math.min(4, navigator.hardwareConcurrency ?? 1);
      const wanted = new URLSearchParams(location.search).get("decoder");
      ({ provider: this.provider, threads: this.threads } = await this.#ask("load", { graphBytes, threads, wanted }));
      this.where = "browser";
    } catch (error) {
      console.warn(`decoding on the server: ${error.message}`);
    }
  }

  /** Turns to an image {image_id, width, height}. */
  async open({ image_id: id, width, height }) {
    const { image_size: imageSize, low_res_size: side } = this.#model;
    const scale = imageSize / Math.max(width, height);
    const scaled = (length) => Math.max(1, Math.floor(length * scale + 0.5));
    this.#image = { id, width, height, imageSize, side, inputWidth: scaled(width), inputHeight: scaled(height) };
    const embedding = this.where === "browser" ? await api.embedding(id) : null;
    await this.#ask("open", { ...this.#image, embedding });
  }

  /**
   * Candidates for a prompt {points: [[x, y, label]], box, text, previous: logits or null, base: mask or null}; one with
   * a text is always for the server.
   * `onFirst` gets the best one as soon as it is there. Resolves to null when a newer prompt took its place.
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
      const isHere = this.where === "browser" && !prompt.text;
      resolve(await (isHere ? this.#here(prompt, onFirst) : this.#there(prompt, onFirst)));
    } catch (error) {
      reject(error);
    } finally {
      this.#busy = false;
      this.#work();
    }
  }

  #here(prompt, onFirst) {
    const { points, labels } = this.#tokens(prompt);
    const previous = prompt.previous ?? (prompt.base && this.#asLogits(prompt.base));
    return this.#ask("decode", { points, labels, previous, single: isSingle(prompt) }, onFirst);
  }

  async #there(prompt, onFirst) {
    const { points, box, text, base } = prompt;
    const request = { image_id: this.#image.id, points, box, text, output: "logits", mask: base && compress(base) };
    const { logits, iou, note } = await api.decode(request);
    if (note) this.onNote(note);
    const bits = Uint8Array.from(atob(logits), (c) => c.charCodeAt(0));
    const values = fromHalf(new Uint16Array(bits.buffer));
    return this.#ask("finish", { logits: values, iou, single: isSingle(prompt) }, onFirst);
  }

  /** Points in the frame of the model input, in the order that the prompt encoder wants. */
  #tokens({ points, box }) {
    const { width, height, inputWidth, inputHeight } = this.#image;
    const place = (x, y) => [(x * inputWidth) / width, (y * inputHeight) / height];
    const placed = points.map(([x, y]) => place(x, y));
    const labels = points.map(([, , label]) => label);
    if (box) return { points: [...placed, place(box[0], box[1]), place(box[2], box[3])].flat(), labels: [...labels, 2, 3] };
    return { points: [...placed, [0, 0]].flat(), labels: [...labels, -1] };
  }

  /** A mask as low-resolution logits: how much of each cell it covers, from -8 to 8. */
  #asLogits(mask) {
    const { side, width, height, imageSize } = this.#image;
    const cell = (Math.max(width, height) / imageSize) * (imageSize / side);
    const covered = new Float32Array(side * side);
    eachStrip(mask, height, (x, top, bottom) => {
      const column = Math.min(side - 1, Math.floor(x / cell));
      for (let y = top; y < bottom; y++) covered[Math.min(side - 1, Math.floor(y / cell)) * side + column]++;
    });
    return covered.map((pixels) => (2 * Math.min(1, pixels / (cell * cell)) - 1) * MASK_LOGIT);
  }

  #ask(call, args, first) {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, first });
      this.#worker.postMessage({ id, call, args });
    });
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

