// The saved masks of an image: how the mask in work becomes one of them, and one of them the mask in work.

import { idOf, newId } from "./masks.js";
import { $, complain, say } from "./panel.js";
import { areaOf, holds } from "./rle.js";
import { colourOf } from "./view.js";

export class Saved {
  #desk;

  constructor(desk) {
    this.#desk = desk;
  }

  /** Before the image is left: saves what was done to the mask in work; false when it cannot be saved. */
  async settle() {
    this.#putBack();
    return this.save();
  }

  /** Saves the mask in work; false when there is one that cannot be saved. */
  async save() {
    const desk = this.#desk;
    const { editor, item } = desk;
    if (!editor || editor.isEmpty) return true;
    const mask = editor.mask();
    if (mask.runs.length < 2) {
      complain("The mask has no pixels.");
      return false;
    }
    const entry = this.#entryOf(editor, mask);
    const work = { clicks: editor.clicks, brushed: editor.brushedPixels(), seconds: desk.clock.takeMask() };
    desk.note("save_mask", { mask: entry.id, details: { ...editor.regions(), brushed: work.brushed } });
    $("reminder").hidden = true;
    if (editor.origin) this.#drop(editor.origin.id);
    desk.masks.push(entry);
    editor.clear();
    desk.view.setMask(entry);
    desk.onMasks();
    await desk.outbox.save([desk.row(entry, { ...work, source: entry.source, revision: entry.revision })], item.image_id);
    if (desk.item === item) say(`Mask saved, ${desk.masks.length} on this image`);
    return true;
  }

  /** The mask in work as a saved one: a new mask, the next revision of one, or what a proposal became. */
  #entryOf({ origin, id: given, model, clicks }, mask) {
    const id = origin ? this.#idOf(origin) : (given ?? newId());
    return {
      ...(origin ?? {}),
      id,
      revision: this.#revisionAfter(origin),
      mask,
      source: origin?.proposed ? origin.id : (origin?.source ?? null),
      iou: model.candidates[model.chosen]?.iou ?? origin?.iou ?? null,
      point: model.points.length ? model.points[0].slice(0, 2) : (origin?.point ?? null),
      annotator: this.#desk.annotator,
      proposed: false,
      hidden: false,
      model: clicks > 0 ? this.#desk.project.task.model_id : (origin?.model ?? null),
      colour: colourOf(id),
    };
  }

  /** What becomes of a proposal has one name, so that two people or tabs make one mask of it and not two. */
  #idOf(origin) {
    return origin.proposed ? idOf(origin.id, this.#desk.project.task) : origin.id;
  }

  /** What a person did to a proposal (2) stands, if the proposal is accepted untouched elsewhere (1). */
  #revisionAfter(origin) {
    if (!origin) return 1;
    return origin.proposed ? 2 : origin.revision + 1;
  }

  async remove(id) {
    const desk = this.#desk;
    const entry = this.#find(id);
    if (!entry) return;
    if (desk.editor.origin?.id === id) desk.editor.clear();
    this.#drop(id);
    const [mask, source] = [this.#idOf(entry), entry.proposed ? id : entry.source];
    const work = { id: mask, revision: this.#revisionAfter(entry), source, deleted: true, seconds: desk.clock.takeMask() };
    desk.note("delete_mask", { mask });
    desk.refresh();
    await desk.outbox.save([desk.row(entry, work)]);
  }

  edit(id) {
    const desk = this.#desk;
    const entry = this.#find(id);
    if (!entry || !this.#mayReplace()) return;
    desk.note("edit_mask", { mask: entry.proposed ? null : id });
    desk.view.setMask({ ...entry, hidden: true });
    desk.editor.edit(entry, entry.mask);
    desk.onMasks();
    say("Editing a mask");
  }

  /** Edits the smallest mask under a point. */
  editAt(x, y) {
    const { width, height } = this.#desk.editor;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const under = this.#desk.masks.filter(({ mask, hidden }) => !hidden && holds(mask, height, column, row));
    if (under.length) this.edit(under.sort((a, b) => areaOf(a.mask) - areaOf(b.mask))[0].id);
  }

  /** Edits the mask after the one in work. */
  editNext() {
    const { masks, editor } = this.#desk;
    const at = masks.findIndex(({ id }) => id === editor.origin?.id);
    if (masks.length) this.edit(masks[(at + 1) % masks.length].id);
  }

  /** Throws the mask in work away; a saved one goes back as it was. */
  discard() {
    const desk = this.#desk;
    const { origin, isEmpty } = desk.editor;
    if (isEmpty) return;
    desk.note("discard");
    desk.editor.clear();
    if (origin) desk.view.setMask(origin);
    desk.onMasks();
  }

  deleteInWork() {
    const { origin } = this.#desk.editor;
    if (origin) this.remove(origin.id);
    else this.discard();
  }

  hide(id) {
    const entry = this.#find(id);
    entry.hidden = !entry.hidden;
    this.#desk.view.setMask(entry);
    this.#desk.onMasks();
  }

  /** Whether the mask in work may make place: an edit without changes goes back by itself. */
  #mayReplace() {
    this.#putBack();
    if (this.#desk.editor.isEmpty) return true;
    complain("Save (Enter) or discard (Esc) the mask in work first.");
    return false;
  }

  /** A mask that was only looked at goes back as it was, and does not become the work of who looked. */
  #putBack() {
    const { editor } = this.#desk;
    if (editor && !editor.isTouched) this.discard();
  }

  #find(id) {
    return this.#desk.masks.find((mask) => mask.id === id);
  }

  #drop(id) {
    this.#desk.masks = this.#desk.masks.filter((mask) => mask.id !== id);
    this.#desk.view.removeMask(id);
  }
}
