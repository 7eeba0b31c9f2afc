// The app: one annotator, one image at a time. Wires the picture, the tools, the decoder and the outbox together.

import * as api from "./api.js";
import { Clock } from "./clock.js";
import { Decoder } from "./decoder.js";
import { Editor } from "./editor.js";
import { actionOf, writeSheet } from "./keys.js";
import { fromServer, newId, toServer } from "./masks.js";
import { Outbox } from "./outbox.js";
import { $, complain, say, showCandidates, showImage, showMasks, showQueue, showSaving, showTool, showWork, signIn, writeTools } from "./panel.js";
import { areaOf, compress, holds } from "./rle.js";
import { Tools } from "./tools.js";
import { colourOf, View } from "./view.js";

const DRAFT_PAUSE = 120; // milliseconds
const HEARTBEAT = 60_000;

class App {
  #project;
  #annotator;
  #outbox;
  #clock;
  #decoder;
  #view = new View($("viewport"));
  #tools;
  #editor = null;
  #item = null;
  #masks = []; // as in masks.js
  #busy = false;
  #draftTimer = 0;
  /** For tests and measurements: milliseconds of the last click until its mask was on the screen. */
  lastClick = 0;

  async start() {
    writeSheet($("keys"));
    writeTools((tool) => this.#act(`tool:${tool}`));
    this.#project = await api.project();
    this.#annotator = await signIn();
    this.#outbox = await Outbox.create(this.#project.dataset, this.#annotator);
    this.#outbox.onChange = showSaving;
    this.#clock = new Clock(this.#project.reminder_seconds);
    this.#clock.onReminder = () => this.#remind();
    this.#tools = new Tools(this.#view, $("viewport"), this.#hands());
    this.#wire();
    const { dataset, stage, round } = this.#project;
    $("dataset").textContent = `${dataset} · ${stage.replaceAll("_", " ")}${round === null ? "" : ` · round ${round}`}`;
    $("person").textContent = this.#annotator;
    this.#decoder = new Decoder(this.#project.model);
    this.#decoder.onNote = complain;
    $("ask").hidden = !this.#project.model.text_prompts;
    await this.#decoder.load();
    const { where, threads } = this.#decoder;
    $("decoder").textContent = where === "browser" ? `decoding here, ${threads} thread${threads > 1 ? "s" : ""}` : "decoding on the server";
    setInterval(() => this.#heartbeat(), HEARTBEAT);
    if (!(await this.#advance())) this.#advanceLater();
    showSaving(this.#outbox);
    document.documentElement.dataset.ready = "true";
  }

  // --- images --------------------------------------------------------------------------------------------------------

  async #next() {
    const item = await api.nextImage(this.#annotator);
    if (item) await this.#open(item, false);
    else this.#close();
  }

  #close() {
    [this.#item, this.#editor, this.#masks] = [null, null, []];
    showImage(null, false);
    this.#refreshMasks();
    this.#refreshWork();
    say("Nothing left to do");
  }

  async #open(item, reviewing) {
    document.documentElement.dataset.image = "";
    this.#item = item;
    showImage(item, reviewing);
    if (item.note) complain(`Sent back: ${item.note}`);
    const [blob, masks] = await Promise.all([api.picture(item.image_id), api.masks(item.image_id), this.#decoder.open(item)]);
    this.#editor = new Editor(item.width, item.height);
    this.#editor.onChange = () => this.#changed();
    await this.#view.open(blob, item.width, item.height, this.#editor);
    this.#masks = masks.map(fromServer);
    for (const mask of await this.#outbox.pendingMasks(item.image_id)) this.#merge(mask);
    this.#view.setMasks(this.#masks);
    const draft = await this.#outbox.draft(item.image_id);
    if (draft) this.#editor.restore(draft);
    this.#clock.restart();
    this.#note("open");
    this.#outbox.save();
    this.#refreshMasks();
    this.#refreshWork();
    this.#tools.refresh();
    document.documentElement.dataset.image = item.image_id;
    say(`${item.name}, ${this.#masks.length} masks`);
  }

  /** A mask that waits in the outbox takes the place of what the server knew. */
  #merge(saved) {
    this.#masks = this.#masks.filter(({ id }) => id !== saved.mask_id && id !== saved.source_mask_id);
    if (!saved.deleted) this.#masks.push(fromServer({ ...saved, annotator: this.#annotator }));
  }

  async #heartbeat() {
    if (!this.#item || document.hidden) return;
    try {
      await api.hold(this.#item.image_id, this.#annotator);
    } catch (error) {
      if (error.status === 409) complain(error.message);
    }
  }

  async #leave(action, details = {}) {
    const image = this.#item?.image_id;
    if (!image) return;
    if (!this.#editor.isEmpty && ["finish", "accept", "send_back"].includes(action)) {
      if (!(await this.#save())) return;
    }
    const untouched = action === "finish" ? this.#masks.filter(({ proposed }) => proposed) : [];
    this.#note(action, { details: { masks: this.#masks.length, ...details } });
    await this.#outbox.save(untouched.map((mask) => this.#row(mask, { id: newId(), source: mask.id })));
    if (!(await this.#advance())) {
      this.#close();
      complain("The server cannot be reached; your work is kept here. This page goes on when it is back.");
      this.#advanceLater();
    }
  }

  /** Takes the next image, after the server knows all that was done to this one; whether it could be reached. */
  async #advance() {
    await this.#outbox.flush();
    if (this.#outbox.offline) return false;
    [this.#item, this.#editor] = [null, null];
    try {
      await this.#next();
      return true;
    } catch (error) {
      if (!(error instanceof api.Refusal) || !this.#item) return false;
      return this.#passOver(error);
    }
  }

  /** Leaves out an image that cannot be opened, and goes on. */
  async #passOver(error) {
    complain(`${this.#item.name} is skipped: ${error.message}`);
    this.#note("skip", { details: { reason: error.message } });
    await this.#outbox.save();
    return this.#advance();
  }

  #advanceLater() {
    setTimeout(async () => {
      if (!this.#item && !(await this.#advance())) this.#advanceLater();
    }, 3000);
  }

  async #showQueue() {
    showQueue(await api.queue(), async (item) => {
      $("queue").close();
      try {
        if (this.#item && this.#item.image_id !== item.image_id) await this.#giveBack();
        const held = item.status === "done" ? item : await api.hold(item.image_id, this.#annotator);
        await this.#open(held, item.status === "done");
      } catch (error) {
        complain(error.message);
      }
    });
    $("queue").showModal();
  }

  async #giveBack() {
    this.#note("leave");
    await this.#outbox.save();
    await api.release(this.#item.image_id, this.#annotator);
  }

  // --- prompts -------------------------------------------------------------------------------------------------------

  /** What the tools may do to the mask in work. */
  #hands() {
    return {
      model: () => this.#editor?.model ?? { points: [], box: null },
      addPoint: (x, y, label) => this.#addPoint(x, y, label),
      setBox: (box) => this.#prompt("box", { box: this.#inside(box) }),
      beginStroke: () => this.#editor?.beginStroke(),
      stroke: (a, b, size, adds) => this.#editor?.stroke(a.x, a.y, b.x, b.y, size, adds),
      endStroke: () => this.#endStroke(),
      choose: (x, y) => this.#chooseAt(x, y),
    };
  }

  #addPoint(x, y, label) {
    const { width, height, model } = this.#editor ?? {};
    if (!(x >= 0 && y >= 0 && x <= width && y <= height)) return;
    this.#prompt(label ? "click" : "background_click", { points: [...model.points, [x, y, label]] });
  }

  #inside([x0, y0, x1, y1]) {
    const { width, height } = this.#editor;
    const bound = (value, most) => Math.min(most, Math.max(0, value));
    return [bound(x0, width), bound(y0, height), bound(x1, width), bound(y1, height)];
  }

  /** Gives the model one more prompt and shows its answer as soon as it is there. */
  async #prompt(action, change) {
    const editor = this.#editor;
    if (!editor) return;
    const started = performance.now();
    const { candidates, chosen, mask, points, box, text } = editor.model;
    const wasPrompted = points.length > 0 || box !== null || text !== null;
    const previous = wasPrompted ? (candidates[chosen]?.logits ?? null) : null;
    editor.clicks++;
    editor.setModel(change);
    this.#note(action, change.text ? { details: { text: change.text } } : {});
    const asked = editor.model;
    const parts = ["points", "box", "text"];
    const isCurrent = () => this.#editor === editor && parts.every((part) => editor.model[part] === asked[part]);
    const show = (found) => isCurrent() && editor.answer({ candidates: found, chosen: 0, mask: found[0].mask });
    this.#setBusy(true);
    try {
      const from = change.text ? { previous: null, base: null } : { previous, base: mask };
      const prompt = { points: asked.points, box: asked.box, text: asked.text, ...from };
      const answer = await this.#decoder.decode(prompt, (first) => {
        show([first]);
        this.lastClick = performance.now() - started;
      });
      if (answer) show(answer.candidates);
    } catch (error) {
      complain(`The model did not answer: ${error.message}`);
    } finally {
      this.#setBusy(false);
    }
  }

  /** Begins anew with what a text means; clicks and a box that are there already count beside it. */
  #ask() {
    const text = $("phrase").value.trim();
    if (text) this.#prompt("text", { text });
    $("viewport").focus();
  }

  #setBusy(busy) {
    this.#busy = busy;
    document.documentElement.dataset.busy = busy;
    this.#refreshWork();
  }

  #endStroke() {
    this.#editor?.endStroke();
    this.#note(this.#tools.tool === "brush" ? "brush" : "erase", { details: { size: this.#tools.brushSize } });
  }

  // --- masks ---------------------------------------------------------------------------------------------------------

  /** Saves the mask in work; whether there was something to save. */
  async #save() {
    const editor = this.#editor;
    if (!editor || editor.isEmpty) return true;
    const mask = editor.mask();
    if (mask.runs.length < 2) {
      complain("The mask has no pixels.");
      return false;
    }
    const { origin, model } = editor;
    const { iou } = model.candidates[model.chosen] ?? {};
    const { parts, holes } = editor.regions();
    const isNew = !origin || origin.proposed;
    const entry = {
      ...(origin ?? {}),
      id: isNew ? newId() : origin.id,
      revision: isNew ? 1 : origin.revision + 1,
      mask,
      source: origin?.proposed ? origin.id : (origin?.source ?? null),
      iou: iou ?? origin?.iou ?? null,
      point: model.points.length ? model.points[0].slice(0, 2) : (origin?.point ?? null),
      annotator: this.#annotator,
      proposed: false,
      hidden: false,
      assisted: editor.clicks > 0 || Boolean(origin?.assisted) || Boolean(origin?.proposed),
    };
    entry.colour = colourOf(entry.id);
    const work = { clicks: editor.clicks, brushed: editor.brushedPixels(), seconds: this.#clock.takeMask() };
    this.#note("save_mask", { mask: entry.id, details: { parts, holes, brushed: work.brushed } });
    $("reminder").hidden = true;
    if (origin) this.#drop(origin.id);
    this.#masks.push(entry);
    editor.clear();
    this.#view.setMask(entry);
    this.#refreshMasks();
    this.#tools.refresh();
    await this.#outbox.save([this.#row(entry, { ...work, source: entry.source, revision: entry.revision })]);
    await this.#outbox.keepDraft(this.#item.image_id, null);
    say(`Mask saved, ${this.#masks.length} on this image`);
    return true;
  }

  #row(entry, work) {
    return toServer(entry, this.#item.image_id, this.#project.model.model_id, work);
  }

  #drop(id) {
    this.#masks = this.#masks.filter((mask) => mask.id !== id);
    this.#view.removeMask(id);
  }

  async #remove(id) {
    const entry = this.#masks.find((mask) => mask.id === id);
    if (!entry) return;
    if (this.#editor.origin?.id === id) this.#editor.clear();
    this.#drop(id);
    const [mask, source] = entry.proposed ? [newId(), id] : [id, entry.source];
    const work = { id: mask, revision: entry.revision + 1, source, deleted: true, seconds: this.#clock.takeMask() };
    this.#note("delete_mask", { mask });
    await this.#outbox.save([this.#row(entry, work)]);
    this.#refreshMasks();
    this.#refreshWork();
  }

  #edit(id) {
    const entry = this.#masks.find((mask) => mask.id === id);
    if (!entry || !this.#mayReplace()) return;
    this.#note("edit_mask", { mask: entry.proposed ? null : id });
    this.#view.setMask({ ...entry, hidden: true });
    this.#editor.edit(entry, entry.mask);
    this.#refreshMasks();
    this.#tools.refresh();
    say("Editing a mask");
  }

  /** Whether the mask in work may make place: an edit without changes goes back by itself. */
  #mayReplace() {
    if (this.#editor.isEmpty) return true;
    if (this.#editor.origin && !this.#editor.canUndo) {
      this.#discard();
      return true;
    }
    complain("Save (Enter) or discard (Esc) the mask in work first.");
    return false;
  }

  #discard() {
    const { origin, isEmpty } = this.#editor;
    if (isEmpty) return;
    this.#note("discard");
    this.#editor.clear();
    if (origin) this.#view.setMask(origin);
    this.#refreshMasks();
    this.#tools.refresh();
  }

  #deleteInWork() {
    const { origin } = this.#editor ?? {};
    if (origin) this.#remove(origin.id);
    else this.#discard();
  }

  #hide(id) {
    const entry = this.#masks.find((mask) => mask.id === id);
    entry.hidden = !entry.hidden;
    this.#view.setMask(entry);
    this.#refreshMasks();
  }

  /** The smallest mask under a point. */
  #chooseAt(x, y) {
    const { width, height } = this.#editor;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const under = this.#masks.filter(({ mask, hidden }) => !hidden && holds(mask, height, column, row));
    if (under.length) this.#edit(under.sort((a, b) => areaOf(a.mask) - areaOf(b.mask))[0].id);
  }

  #editNext() {
    const at = this.#masks.findIndex(({ id }) => id === this.#editor.origin?.id);
    if (this.#masks.length) this.#edit(this.#masks[(at + 1) % this.#masks.length].id);
  }

  // --- what is shown --------------------------------------------------------------------------------------------------

  #changed() {
    this.#refreshWork();
    this.#tools.refresh();
    clearTimeout(this.#draftTimer);
    const [image, editor] = [this.#item.image_id, this.#editor];
    document.documentElement.dataset.kept = "false";
    this.#draftTimer = setTimeout(async () => {
      await this.#outbox.keepDraft(image, editor.draft());
      document.documentElement.dataset.kept = "true";
    }, DRAFT_PAUSE);
  }

  #refreshWork() {
    showWork(this.#editor, this.#busy);
    showCandidates(this.#editor?.model ?? { candidates: [], chosen: 0 }, this.#item?.height, (index) => this.#act(`candidate:${index}`));
  }

  #refreshMasks() {
    showMasks(this.#masks, this.#editor?.origin?.id, {
      edit: (id) => this.#edit(id),
      hide: (id) => this.#hide(id),
      remove: (id) => this.#remove(id),
    });
  }

  #remind() {
    if (!this.#item || this.#editor.isEmpty) return;
    this.#note("reminder");
    $("reminder").textContent = `This mask has taken over ${Math.round(this.#project.reminder_seconds)} s. If it is hard, leave it and go on.`;
    $("reminder").hidden = false;
  }

  #note(action, about = {}) {
    this.#outbox.event(action, this.#clock.takeEvent(), { image: this.#item?.image_id ?? null, ...about });
  }

  // --- actions --------------------------------------------------------------------------------------------------------

  #act(action) {
    const [verb, value] = action.split(":");
    const editor = this.#editor;
    const acts = {
      tool: () => (this.#tools.select(value), showTool(this.#tools)),
      smaller: () => this.#resizeBrush(this.#tools.brushSize / 1.25 - 0.5),
      larger: () => this.#resizeBrush(this.#tools.brushSize * 1.25 + 0.5),
      candidate: () => this.#candidate(value),
      ask: () => $("ask").hidden || $("phrase").select(),
      save: () => this.#save(),
      discard: () => this.#discard(),
      delete: () => this.#deleteInWork(),
      undo: () => (editor.undo(), this.#note("undo")),
      redo: () => (editor.redo(), this.#note("redo")),
      holes: () => (editor.fillHoles(), this.#note("fill_holes")),
      largest: () => (editor.keepLargest(), this.#note("keep_largest")),
      toggle: () => this.#toggleMasks(),
      "next-mask": () => this.#editNext(),
      "zoom-in": () => this.#view.zoom(1),
      "zoom-out": () => this.#view.zoom(-1),
      fit: () => this.#view.fit(),
      finish: () => this.#leave("finish"),
      skip: () => this.#leave("skip"),
      accept: () => $("review").hidden || this.#leave("accept"),
      "send-back": () => this.#leave("send_back", { note: $("note").value.trim() }),
      queue: () => this.#showQueue().catch((error) => complain(error.message)),
      help: () => $("help").showModal(),
    };
    const free = ["queue", "help", "tool", "smaller", "larger"];
    if (editor || free.includes(verb)) acts[verb]?.();
  }

  #candidate(value) {
    const { candidates, chosen } = this.#editor.model;
    if (!candidates.length) return;
    this.#editor.choose(value === "next" ? (chosen + 1) % candidates.length : Number(value));
    this.#note("choose_candidate", { details: { index: this.#editor.model.chosen } });
  }

  #resizeBrush(size) {
    this.#tools.resizeBrush(size);
    showTool(this.#tools);
  }

  #toggleMasks() {
    this.#view.setShowSaved(!this.#view.showSaved);
    const { showSaved } = this.#view;
    $("toggle-masks").setAttribute("aria-pressed", showSaved);
    $("toggle-masks").firstChild.textContent = showSaved ? "Shown " : "Hidden ";
  }

  #wire() {
    const buttons = {
      "save-mask": "save", discard: "discard", undo: "undo", redo: "redo", "zoom-in": "zoom-in", "zoom-out": "zoom-out",
      fit: "fit", "fill-holes": "holes", "keep-largest": "largest", "toggle-masks": "toggle", finish: "finish",
      skip: "skip", accept: "accept", "send-back": "send-back", "open-queue": "queue", "open-help": "help",
    };
    for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", () => this.#act(action));
    $("brush-size").addEventListener("input", (event) => this.#resizeBrush(Number(event.target.value)));
    $("person").addEventListener("click", () => (localStorage.removeItem("annotator"), location.reload()));
    $("ask").addEventListener("submit", (event) => (event.preventDefault(), this.#ask()));
    $("phrase").addEventListener("keydown", (event) => event.key === "Escape" && $("viewport").focus());
    addEventListener("keydown", (event) => this.#key(event));
    this.#act("tool:points");
  }

  #key(event) {
    if (event.target.matches("input:not([type=range]), textarea") || document.querySelector("dialog[open]")) return;
    const onButton = event.target.matches("button, input");
    if (!this.#editor && !["q", "?"].includes(event.key)) return;
    if (!onButton && this.#tools.key(event)) return event.preventDefault();
    const action = actionOf(event);
    if (!action || (onButton && event.key === "Enter")) return;
    event.preventDefault();
    this.#act(action);
  }

  /** For tests: the prompt in work. */
  get prompt() {
    const { points, box } = this.#editor.model;
    return { points, box };
  }

  /** For tests: what the mask in work and the saved ones look like, as compressed counts. */
  get masks() {
    return { active: this.#editor?.isEmpty ? null : compress(this.#editor.mask()), saved: this.#masks.map(({ id, mask }) => ({ id, rle: compress(mask) })) };
  }
}

globalThis.annotate = new App();
globalThis.annotate.start().catch((error) => complain(error.message));
