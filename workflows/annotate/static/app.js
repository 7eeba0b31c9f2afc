// The app: one annotator, one image at a time. Puts the parts together and starts them.

import { Actions } from "./actions.js";
import * as api from "./api.js";
import { Clock } from "./clock.js";
import { Decoder } from "./decoder.js";
import { Desk } from "./desk.js";
import { Images } from "./images.js";
import { writeSheet } from "./keys.js";
import { Outbox } from "./outbox.js";
import { $, complain, showCandidates, showDecoder, showMasks, showReminder, showSaving, showSight, showTask, showWork, signIn, writeTools } from "./panel.js";
import { goingOn, Prompts } from "./prompts.js";
import { compress } from "./rle.js";
import { Saved } from "./saved.js";
import { Sight } from "./sight.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

class App {
  #desk;
  #saved;
  #prompts;
  #tools;
  #actions;

  async start() {
    writeSheet($("keys"));
    writeTools((tool) => this.#actions.act(`tool:${tool}`));
    this.#desk = await sitDown();
    this.#saved = new Saved(this.#desk);
    this.#prompts = new Prompts(this.#desk, this.#saved);
    this.#tools = new Tools(this.#desk.view, $("viewport"), this.#prompts.hands());
    const images = new Images(this.#desk, this.#saved, this.#prompts);
    this.#actions = new Actions({ desk: this.#desk, images, prompts: this.#prompts, saved: this.#saved, tools: this.#tools });
    this.#show();
    this.#actions.listen();
    this.#actions.act("tool:points");
    $("ask").hidden = !this.#desk.project.model.text_prompts;
    showTask(this.#desk.project, this.#desk.annotator);
    await this.#desk.decoder.load();
    showDecoder(this.#desk.decoder);
    await images.begin();
    showSaving(this.#desk.outbox);
    document.documentElement.dataset.ready = "true";
  }

  /** The page follows what lies on the desk. */
  #show() {
    const [desk, saved] = [this.#desk, this.#saved];
    const choose = (index) => this.#actions.act(`candidate:${index}`);
    const edits = { edit: (id) => saved.edit(id), hide: (id) => saved.hide(id), remove: (id) => saved.remove(id) };
    desk.onMasks = () => showMasks(desk.masks, desk.editor?.origin?.id, edits);
    desk.onWork = () => {
      showWork(desk.editor, desk.busy);
      showCandidates(desk.editor?.model ?? { candidates: [], chosen: 0 }, desk.item?.height, choose);
      showSight(desk.editor && desk.decoder.frameFor(goingOn(desk.editor.model)));
      this.#tools.refresh();
    };
    new Sight(desk).follow();
    desk.outbox.onChange = showSaving;
    desk.decoder.onNote = (note) => (complain(note), showDecoder(desk.decoder));
    desk.clock.onReminder = () => {
      if (desk.editor?.isEmpty ?? true) return; // there is none while an image opens
      desk.note("reminder");
      showReminder(desk.clock.limit);
    };
    $("person").addEventListener("click", () => (localStorage.removeItem("annotator"), location.reload()));
  }

  /** For tests and measurements: milliseconds of the last click until its mask was on the screen. */
  get lastClick() {
    return this.#prompts.lastClick;
  }

  /** For tests: the prompt in work. */
  get prompt() {
    const { points, box } = this.#desk.editor.model;
    return { points, box };
  }

  /** For tests: what the mask in work and the saved ones look like, as compressed counts. */
  get masks() {
    const { editor, masks } = this.#desk;
    return { active: editor?.isEmpty ? null : compress(editor.mask()), saved: masks.map(({ id, mask }) => ({ id, rle: compress(mask) })) };
  }
}

/** The desk of a person who has said a name. */
async function sitDown() {
  const project = await api.project();
  const annotator = await signIn();
  return new Desk({
    project,
    annotator,
    outbox: await Outbox.create(project.task, annotator),
    clock: new Clock(project.reminder_seconds),
    view: new View($("viewport")),
    decoder: new Decoder(project.model),
  });
}

$("not-loaded").remove();
globalThis.annotate = new App();
globalThis.annotate.start().catch(({ name, message }) => {
  const isBlocked = name === "SecurityError"; // in each browser's own words, none of which says what to do
  const blocked = "the browser blocks cookies and site data here. Allow them, then reload it.";
  complain(`This page could not start: ${isBlocked ? blocked : `${message}. Reload it to try again.`}`, 0);
  addEventListener("hashchange", () => location.reload()); // with the token that was missing
});
