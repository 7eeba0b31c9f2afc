// From the tools to the mask in work: points, boxes and words go to the model, strokes of the brush go straight on.

import { complain } from "./panel.js";

const LEVEL_STEP = 0.5; // of logits, by which a mask gets wider or tighter
const NO_ANSWER = { candidates: [], chosen: 0 };

/** The prompt that goes on from the mask in work: what a further click is added to. */
export const goingOn = (model) => promptOf(model, model);

export class Prompts {
  #desk;
  #saved;
  #moves = Promise.resolve();
  /** For measurements: milliseconds of the last click until its mask was on the screen. */
  lastClick = 0;

  constructor(desk, saved) {
    [this.#desk, this.#saved] = [desk, saved];
  }

  /** What the tools may do. */
  hands() {
    const desk = this.#desk;
    return {
      model: () => desk.editor?.model ?? { points: [], box: null },
      addPoint: (x, y, label) => this.#addPoint(x, y, label),
      setBox: (box) => desk.editor && this.#ask("box", { box: this.#inside(box) }),
      beginStroke: () => desk.editor?.beginStroke(),
      stroke: (a, b, size, adds) => desk.editor?.isInStroke && desk.editor.stroke(a.x, a.y, b.x, b.y, size, adds),
      endStroke: (adds, size) => {
        if (!desk.editor?.isInStroke) return;
        desk.editor.endStroke();
        desk.note(adds ? "brush" : "erase", { details: { size } });
      },
      choose: (x, y) => desk.editor && this.#saved.editAt(x, y),
    };
  }

  /** Begins anew with what a text means; clicks and a box that are there already count beside it. */
  say(text) {
    if (text) this.#ask("text", { text }, { text });
  }

  /** Takes another of the model's answers, by number or the one after. */
  candidate(value) {
    const { editor } = this.#desk;
    const { candidates, chosen } = editor.model;
    if (!candidates.length) return;
    editor.choose(value === "next" ? (chosen + 1) % candidates.length : Number(value));
    this.#desk.note("choose_candidate", { details: { index: editor.model.chosen } });
  }

  /** Draws the chosen answer so many steps wider, or tighter, all around: how far an object goes is what clicks tell worst. */
  widen(steps) {
    this.#moves = this.#moves.then(() => this.#widen(steps)).catch(({ message }) => complain(message));
  }

  async #widen(steps) {
    const desk = this.#desk;
    const { editor } = desk;
    const { candidates, chosen } = editor?.model ?? NO_ANSWER;
    if (!candidates[chosen]?.logits) return;
    const before = editor.model;
    desk.setBusy(true);
    try {
      const moved = await desk.decoder.moved(candidates[chosen], steps * LEVEL_STEP);
      if (desk.editor !== editor || editor.model !== before) return;
      editor.setModel({ candidates: candidates.map((each, at) => (at === chosen ? moved : each)), mask: moved.mask });
      desk.note(steps > 0 ? "widen" : "tighten");
    } finally {
      desk.setBusy(false);
    }
  }

  #addPoint(x, y, label) {
    const { width, height, model } = this.#desk.editor ?? {};
    if (!(x >= 0 && y >= 0 && x <= width && y <= height)) return;
    this.#ask(label ? "click" : "background_click", { points: [...model.points, [x, y, label]] });
  }

  #inside([x0, y0, x1, y1]) {
    const { width, height } = this.#desk.editor;
    const bound = (value, most) => Math.min(most, Math.max(0, value));
    return [bound(x0, width), bound(y0, height), bound(x1, width), bound(y1, height)];
  }

  /** Gives the model one more prompt. */
  #ask(action, change, details) {
    const desk = this.#desk;
    const { editor } = desk;
    if (!editor) return;
    const started = performance.now();
    const before = editor.model;
    editor.clicks++;
    editor.setModel({ ...change, asked: promptOf({ ...before, ...change }, change.text ? null : before) });
    desk.note(action, details ? { details } : {});
    this.#answer(started);
  }

  /** Asks once more where undo, redo or a reload shows a prompt whose answer came while another one was shown, or never. */
  askAgain() {
    if (this.#desk.editor.model.asked) this.#answer(performance.now());
  }

  /** Shows what the model says to the prompt in work as soon as it is there. */
  async #answer(started) {
    const desk = this.#desk;
    const { editor } = desk;
    const { asked } = editor.model;
    const isCurrent = () => desk.editor === editor && editor.model.asked === asked;
    const show = (found, change) => isCurrent() && editor.answer({ candidates: found, chosen: 0, mask: found[0].mask, ...change });
    desk.setBusy(true);
    try {
      const answer = await desk.decoder.decode(asked, (first) => {
        show([first]);
        this.lastClick = performance.now() - started;
      });
      if (answer) show(answer.candidates, { asked: null });
    } catch (error) {
      complain(`The model did not answer: ${error.message}`);
    } finally {
      desk.setBusy(false);
    }
  }
}

/** A prompt as decoder.js takes it: with the answer to the prompts before, if there were any, and the mask so far. */
function promptOf({ points, box, text }, before) {
  const prompt = { points, box, text };
  if (!before) return { ...prompt, previous: null, base: null };
  const wasPrompted = before.points.length > 0 || before.box !== null || before.text !== null;
  return { ...prompt, previous: wasPrompted ? (before.candidates[before.chosen] ?? null) : null, base: before.mask };
}
