// All that a person can ask for by a button or a key, each under one name.

import { actionOf } from "./keys.js";
import { $, complain, showToggle, showTool } from "./panel.js";

const BUTTONS = {
  "save-mask": "save", discard: "discard", undo: "undo", redo: "redo", "zoom-in": "zoom-in", "zoom-out": "zoom-out",
  fit: "fit", "fill-holes": "holes", "keep-largest": "largest", tighter: "tighter", wider: "wider", "toggle-masks": "toggle",
  finish: "finish", skip: "skip", accept: "accept", "send-back": "send-back", "open-queue": "queue", "open-help": "help",
};
/** What is done to one image is not done to the next because a key was held down a moment longer. */
const ONCE_A_PRESS = ["finish", "skip", "accept", "delete", "save", "discard"];
const WITHOUT_IMAGE = ["queue", "help", "tool", "smaller", "larger"];

export class Actions {
  #desk;
  #tools;
  #acts;
  #say;

  constructor({ desk, images, prompts, saved, tools }) {
    const { view } = desk;
    [this.#desk, this.#tools] = [desk, tools];
    this.#say = () => (prompts.say($("phrase").value.trim()), $("viewport").focus());
    this.#acts = {
      tool: (name) => (tools.select(name), showTool(tools)),
      smaller: () => this.#resizeBrush(tools.brushSize / 1.25 - 0.5),
      larger: () => this.#resizeBrush(tools.brushSize * 1.25 + 0.5),
      candidate: (which) => prompts.candidate(which),
      tighter: () => prompts.widen(-1),
      wider: () => prompts.widen(1),
      ask: () => $("ask").hidden || $("phrase").select(),
      save: () => saved.save(),
      discard: () => saved.discard(),
      delete: () => saved.deleteInWork(),
      undo: () => (desk.editor.undo(), desk.note("undo"), prompts.askAgain()),
      redo: () => (desk.editor.redo(), desk.note("redo"), prompts.askAgain()),
      holes: () => (desk.editor.fillHoles(), desk.note("fill_holes")),
      largest: () => (desk.editor.keepLargest(), desk.note("keep_largest")),
      toggle: () => (view.setShowSaved(!view.showSaved), showToggle(view.showSaved)),
      "next-mask": () => saved.editNext(),
      "zoom-in": () => view.zoom(1),
      "zoom-out": () => view.zoom(-1),
      fit: () => view.fit(),
      finish: () => $("review").hidden && images.leave("finish"),
      skip: () => $("review").hidden && images.leave("skip"),
      accept: () => $("review").hidden || images.leave("accept"),
      "send-back": () => images.leave("send_back", { note: $("note").value.trim() }),
      queue: () => images.list().catch((error) => complain(error.message)),
      help: () => $("help").showModal(),
    };
  }

  /** Does what `verb` or `verb:value` names; nothing where it needs an image and none is open. */
  act(action) {
    const [verb, value] = action.split(":");
    if (this.#desk.editor || WITHOUT_IMAGE.includes(verb)) this.#acts[verb]?.(value);
  }

  /** Listens to buttons and keys. */
  listen() {
    for (const [id, action] of Object.entries(BUTTONS)) $(id).addEventListener("click", () => this.act(action));
    $("brush-size").addEventListener("input", (event) => this.#resizeBrush(Number(event.target.value)));
    $("ask").addEventListener("submit", (event) => (event.preventDefault(), this.#say()));
    $("phrase").addEventListener("keydown", (event) => event.key === "Escape" && $("viewport").focus());
    addEventListener("keydown", (event) => this.#key(event));
    addEventListener("mousedown", (event) => event.target.closest?.("button") && leaveFocus(event));
  }

  #key(event) {
    if (event.target.matches("input:not([type=range]), textarea") || document.querySelector("dialog[open]")) return;
    const onButton = event.target.matches("button, input");
    if (!this.#desk.editor && !["queue", "help"].includes(actionOf(event))) return;
    if (this.#tools.isBusy) return event.preventDefault(); // first comes the end of the stroke
    if (!onButton && this.#tools.key(event)) return event.preventDefault();
    const action = actionOf(event);
    if (!action || (onButton && event.key === "Enter")) return;
    event.preventDefault();
    if (!event.repeat || !ONCE_A_PRESS.includes(action)) this.act(action);
  }

  #resizeBrush(size) {
    this.#tools.resizeBrush(size);
    showTool(this.#tools);
  }
}

/** A mouse on a button leaves the keys where they are, as it does in Safari: the next Enter saves, and presses nothing. */
function leaveFocus(event) {
  if (event.target.closest("dialog")) return;
  event.preventDefault();
  if (document.activeElement.matches("input, textarea")) $("viewport").focus();
}
