// Which image is open: the next of the queue, one of the list, the one sent back; and what becomes of it.

import * as api from "./api.js";
import { Editor } from "./editor.js";
import { fromServer, idOf } from "./masks.js";
import { $, complain, say, showImage, showQueue } from "./panel.js";

const HEARTBEAT = 60_000; // milliseconds
const LOOK_AGAIN = 10_000;
const NOTHING = "Nothing left to do";
const RETRY = 3000;
/** What the server itself answers where an image cannot be opened; while a store is away (503) one only has to wait. */
const NOT_AN_IMAGE = [400, 404, 422];
/** Of a bug, which may be this image's, or of the moment: whether it goes on, only a second request tells. */
const FAILED = 500;
const OTHER_TASK = 412;

export class Images {
  #desk;
  #saved;
  #prompts;
  #turns = Promise.resolve();
  #resting = false; // whether nothing was left for this person
  #away = ""; // why there is no image now, where the server says so
  #failed = null; // the image at which the server failed last

  constructor(desk, saved, prompts) {
    [this.#desk, this.#saved, this.#prompts] = [desk, saved, prompts];
  }

  /** Opens the first image, as soon as the server can be reached. */
  async begin() {
    setInterval(() => this.#heartbeat(), HEARTBEAT);
    setInterval(() => this.#lookAgain(), LOOK_AGAIN);
    addEventListener("focus", () => this.#lookAgain());
    if (!(await this.#turn(() => this.#advance()))) this.#wait();
  }

  /**
   * Done with this image: `action` says how. What is in work is saved first, unless the image is skipped.
   * Asked for twice in a row it happens once, since nobody has seen the next image yet.
   */
  async leave(action, details = {}) {
    const { item } = this.#desk;
    await this.#turn(async () => {
      if (item && item === this.#desk.item) await this.#leave(action, details);
    });
  }

  async #leave(action, details) {
    const desk = this.#desk;
    if (action !== "skip" && !(await this.#saved.settle())) return;
    const untouched = action === "finish" ? desk.masks.filter(({ proposed }) => proposed) : [];
    desk.note(action, { details: { masks: desk.masks.length, ...details } });
    const accepted = untouched.map((mask) => desk.row(mask, { id: idOf(mask.id, desk.project.task), source: mask.id }));
    desk.clear(); // what would be drawn now would be drawn on an image that is done
    await desk.outbox.save(accepted);
    if (!(await this.#advance())) this.#wait();
  }

  #wait() {
    this.#close("Waiting for the server");
    const why = this.#away || "The server cannot be reached";
    complain(`${why}; your work is kept here. This page goes on when it is back.`);
    this.#advanceLater();
  }

  /** The list of all images, of which one can be opened or reviewed. */
  async list() {
    showQueue(await api.queue(), async (item) => {
      $("queue").close();
      try {
        await this.#turn(() => this.#change(item));
      } catch (error) {
        complain(error.message);
      }
    });
    $("queue").showModal();
  }

  /** Changes of image follow one another: one that overtook another would note what was done to the wrong image. */
  #turn(change) {
    const turn = this.#turns.then(change);
    this.#turns = turn.catch(() => {}); // whoever asked for it sees the error
    return turn;
  }

  async #change(item) {
    const { annotator, item: current } = this.#desk;
    const reviewing = item.status === "done";
    const held = reviewing ? item : await api.hold(item.image_id, annotator); // or all stays as it is
    if (current && current.image_id !== item.image_id) await this.#giveBack();
    try {
      await this.#open(held, reviewing);
    } catch (error) {
      if (!(await this.#notOpened(error, reviewing ? "leave" : "skip"))) this.#wait();
    }
  }

  async #giveBack() {
    const { item, annotator, outbox } = this.#desk;
    this.#desk.note("leave");
    await outbox.save();
    await api.release(item.image_id, annotator);
  }

  /** There is no mask in work until all of the image is here: nothing can be done to an image that nobody sees yet. */
  async #open(item, reviewing) {
    const desk = this.#desk;
    document.documentElement.dataset.image = "";
    desk.clear();
    this.#resting = false;
    desk.item = item;
    showImage(item, reviewing);
    if (item.note) complain(`Sent back: ${item.note}`);
    const pending = await desk.outbox.pendingMasks(item.image_id); // asked first: what is sent meanwhile may be in no answer
    const [blob, masks] = await Promise.all([api.picture(item.image_id), api.masks(item.image_id), desk.decoder.open(item)]);
    const editor = new Editor(item.width, item.height);
    await desk.view.open(blob, item.width, item.height, editor);
    desk.masks = masks.map(fromServer);
    pending.forEach((mask) => this.#merge(mask));
    desk.view.setMasks(desk.masks);
    const draft = await desk.outbox.draft(item.image_id);
    if (draft) this.#takeUp(draft, editor);
    editor.onChange = () => desk.changed();
    desk.editor = editor;
    desk.view.onMove(); // by whom zoomed in while it opened
    this.#failed = null;
    desk.clock.restart();
    desk.note("open");
    desk.outbox.save();
    desk.refresh();
    this.#prompts.askAgain();
    document.documentElement.dataset.image = item.image_id;
    say(`${item.name}, ${desk.masks.length} masks`);
  }

  /** Goes on with a mask in work. The saved one that it is an edit of does not lie below: erased pixels would seem to stay. */
  #takeUp(draft, editor) {
    const { view, masks } = this.#desk;
    editor.restore(draft);
    const edited = masks.find(({ id }) => id === draft.origin?.id);
    if (edited) view.setMask({ ...edited, hidden: true });
  }

  /** A mask that waits in the outbox takes the place of what the server knew. */
  #merge(saved) {
    const desk = this.#desk;
    desk.masks = desk.masks.filter(({ id }) => id !== saved.mask_id && id !== saved.source_mask_id);
    if (!saved.deleted) desk.masks.push(fromServer({ ...saved, annotator: desk.annotator }));
  }

  #close(why) {
    this.#resting = why === NOTHING;
    this.#desk.clear();
    showImage(null, false, why);
    say(why);
  }

  /** Asks again where nothing was left: an image may be sent back or given up, and another task may begin. Whoever has
   * gone away gets none, for others would wait for it. */
  async #lookAgain() {
    const { clock, project } = this.#desk;
    if (document.hidden || clock.silence > project.lease_seconds) return;
    await this.#turn(async () => {
      if (this.#resting && !(await this.#advance()) && !this.#resting) this.#wait();
    });
  }

  /** Takes the next image, after the server knows all that was done to this one; whether it could be reached. */
  async #advance() {
    const desk = this.#desk;
    await desk.outbox.flush();
    this.#away = "";
    if (desk.outbox.offline) return false;
    desk.clear();
    try {
      const item = await api.nextImage(desk.annotator);
      if (item) await this.#open(item, false);
      else if (!this.#resting) this.#close(NOTHING);
      return true;
    } catch (error) {
      return this.#notOpened(error, "skip");
    }
  }

  /** Goes on after an image that did not open; whether the server could be reached. */
  async #notOpened(error, action) {
    if (error.status === OTHER_TASK) return this.#beginAnew();
    const { item } = this.#desk;
    const again = error.status === FAILED && item?.image_id === this.#failed;
    if (item && ((error.isOurs && NOT_AN_IMAGE.includes(error.status)) || again)) return this.#passOver(error, action);
    if (error.status === FAILED) this.#failed = item?.image_id ?? null;
    this.#desk.clear();
    this.#away = error.status ? error.message : "";
    return false;
  }

  /** Loads the page for the task that the server has by now; the server knows all that was done for the one before. */
  #beginAnew() {
    location.reload();
    return new Promise(() => {});
  }

  /** Leaves out an image that cannot be opened, and goes on. */
  async #passOver(error, action) {
    const desk = this.#desk;
    complain(`${desk.item.name} ${action === "skip" ? "is skipped" : "cannot be opened"}: ${error.message}`);
    desk.note(action, { details: { reason: error.message } });
    await desk.outbox.save();
    return this.#advance();
  }

  #advanceLater() {
    setTimeout(async () => {
      if (!(await this.#turn(() => this.#desk.item || this.#advance()))) this.#advanceLater();
    }, RETRY);
  }

  /** Says that the image is still being worked on, if it is: a page that was left open holds none for ever. */
  async #heartbeat() {
    const { item, annotator, clock } = this.#desk;
    if (!item || document.hidden || clock.silence > HEARTBEAT / 1000) return;
    try {
      await api.hold(item.image_id, annotator);
    } catch (error) {
      if ([409, OTHER_TASK].includes(error.status)) complain(error.message);
    }
  }
}
