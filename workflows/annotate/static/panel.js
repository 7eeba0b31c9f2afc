// The page around the picture. Text from outside only ever becomes textContent.

import { areaOf } from "./rle.js";
import { thumbnails } from "./thumbnails.js";
import { TOOLS } from "./tools.js";

export const $ = (id) => document.getElementById(id);

const EYE = "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z";
const BIN = "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13";
const ROWS_AT_ONCE = 200;
const STATES = { open: "to do", done: "to review", accepted: "accepted", sent_back: "sent back" };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export function writeTools(select) {
  for (const [tool, key, name, path] of TOOLS) {
    const button = element("button", { type: "button", title: `${name} (${key})`, onclick: () => select(tool) });
    button.append(icon(path), element("kbd", { textContent: key }));
    button.dataset.tool = tool;
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", name);
    $("tools").append(button);
  }
}

export function showTool(tools) {
  for (const button of $("tools").children) button.setAttribute("aria-checked", button.dataset.tool === tools.tool);
  $("brush-size").value = $("brush-size-text").textContent = tools.brushSize;
}

/** The task and the person. */
export function showTask({ dataset, task: { stage, round } }, annotator) {
  $("dataset").textContent = `${dataset} · ${stage.replaceAll("_", " ")}${round === null ? "" : ` · round ${round}`}`;
  $("person").textContent = annotator;
}

/** Where clicks are decoded. */
export function showDecoder({ where, provider, threads }) {
  const here = `decoding here, ${provider === "webgpu" ? "on the GPU" : `${threads} thread${threads > 1 ? "s" : ""}`}`;
  $("decoder").textContent = where === "browser" ? here : "decoding on the server";
}

/** How much of the image the model sees: a frame of frame.js, null when no image is open. */
export function showSight(frame) {
  const part = frame?.isWhole ? "the whole image" : `${frame?.width} × ${frame?.height} px`;
  const text = frame ? `sees ${part}` : "";
  if ($("sight").textContent !== text) $("sight").textContent = text; // what stays the same is not read out again
}

/** Whether the saved masks are shown. */
export function showToggle(shown) {
  $("toggle-masks").firstChild.textContent = shown ? "Hide all " : "Show all ";
}

/** Suggests to move on from a mask that takes long. */
export function showReminder(seconds) {
  $("reminder").textContent = `This mask has taken over ${Math.round(seconds)} s. If it is hard, leave it and go on.`;
  $("reminder").hidden = false;
}

/** The image that is open, or why none is. */
export function showImage(item, reviewing, why = "") {
  $("paper").hidden = $("overlay").hidden = !item;
  document.querySelector("footer").hidden = reviewing;
  $("image-name").textContent = item ? `${item.name}  ·  ${item.width} × ${item.height}` : why;
  $("image-status").hidden = !item;
  $("image-status").textContent = item ? STATES[item.status] : "";
  $("image-status").className = `chip ${item?.status ?? ""}`;
  $("review").hidden = !reviewing;
  $("note").value = ""; // of the image before
}

export function showSaving({ waiting, offline, why, refused, full }) {
  const saved = $("saved");
  saved.className = refused || (full && waiting) ? "refused" : waiting ? "waiting" : "quiet";
  if (refused) saved.textContent = `the server refused a save: ${refused}`;
  else if (full && waiting) saved.textContent = `this browser keeps nothing (${full}): leave this page open, ${waiting} saves wait`;
  else if (offline && waiting) saved.textContent = `${why || "server away"}: ${waiting} saves kept here`;
  else saved.textContent = waiting ? `saving ${waiting}` : "all saved";
  saved.title = saved.textContent; // a narrow window shows a part of it
}

/** Candidates as small pictures with their scores, which are made anew only for a new answer. */
export function showCandidates({ candidates, chosen }, height, choose) {
  const list = $("candidates");
  if (list.candidates !== candidates) {
    const pictures = thumbnails(candidates.map(({ mask }) => mask), height, $("photo"));
    list.replaceChildren(...candidates.map(({ iou }, index) => candidateButton(index, iou, pictures[index], choose)));
    list.candidates = candidates;
  }
  [...list.children].forEach((button, index) => button.setAttribute("aria-checked", index === chosen));
}

function candidateButton(index, iou, picture, choose) {
  const score = element("span", { textContent: `${index + 1}  ·  ${iou.toFixed(2)}` });
  const button = element("button", { type: "button", onclick: () => choose(index) }, picture, score);
  button.setAttribute("role", "radio");
  button.setAttribute("aria-label", `Candidate ${index + 1}, predicted IoU ${iou.toFixed(2)}`);
  return button;
}

/** The state of the mask in work, and what can be done with the image; nothing without an editor. */
export function showWork(editor, busy) {
  const something = Boolean(editor && !editor.isEmpty);
  const reviewing = !$("review").hidden;
  for (const id of ["accept", "send-back"]) $(id).disabled = !editor;
  for (const id of ["finish", "skip"]) $(id).disabled = !editor || reviewing;
  for (const id of ["save-mask", "discard", "fill-holes", "keep-largest"]) $(id).disabled = !something;
  const { candidates = [], chosen } = editor?.model ?? {};
  for (const id of ["tighter", "wider"]) $(id).disabled = !candidates[chosen]?.logits;
  $("undo").disabled = !editor?.canUndo;
  $("redo").disabled = !editor?.canRedo;
  $("work-title").textContent = editor?.origin ? "Editing a mask" : "Mask in work";
  $("work-hint").hidden = something || !editor;
  $("work-facts").textContent = something ? facts(editor, busy) : "";
}

function facts(editor, busy) {
  const { points, box, text } = editor.model;
  const said = [];
  if (text) said.push(`“${text}”`);
  if (points.length) said.push(`${points.length} point${points.length > 1 ? "s" : ""}`);
  if (box) said.push("box");
  if (busy) said.push("…");
  return said.join(" · ");
}

/**
 * Fills a list with a row for each item, `least` or more at first and others as they are scrolled to: each costs time in
 * every frame, and of a hundred thousand no browser shows all.
 */
function fill(list, scroller, items, rowOf, least = 0) {
  const more = (count) => {
    const shown = list.childElementCount;
    list.append(...items.slice(shown, shown + count).map(rowOf));
  };
  list.replaceChildren();
  more(Math.max(ROWS_AT_ONCE, least));
  scroller.onscroll = () => {
    if (scroller.scrollHeight - scroller.scrollTop < 3 * scroller.clientHeight) more(ROWS_AT_ONCE);
  };
}

/** The list of masks, as far as it was scrolled to before. */
export function showMasks(masks, editing, edits) {
  $("list-title").textContent = `Masks  ${masks.length}`;
  const list = $("masks");
  fill(list, list, masks, (entry) => maskRow(entry, entry.id === editing, edits), list.childElementCount);
}

function maskRow({ id, mask, colour, hidden, proposed, annotator }, isChosen, { edit, hide, remove }) {
  const swatch = element("i");
  swatch.style.background = `rgb(${colour.join(",")})`;
  const words = `${areaOf(mask).toLocaleString("en")} px${proposed ? " · proposed" : annotator ? ` · ${annotator}` : ""}`;
  const label = element("span", { textContent: words });
  const row = element(
    "li",
    { className: isChosen ? "chosen" : "" },
    element("button", { type: "button", className: "edit", title: "Edit", onclick: () => edit(id) }, swatch, label),
    named(element("button", { type: "button", className: hidden ? "off" : "", onclick: () => hide(id) }, icon(EYE)), hidden ? "Show mask" : "Hide mask"),
    named(element("button", { type: "button", onclick: () => remove(id) }, icon(BIN)), "Delete mask"),
  );
  row.dataset.mask = id;
  return row;
}

function named(button, name) {
  button.setAttribute("aria-label", name);
  button.title = name;
  return button;
}

/** The dialog with all images. */
export function showQueue(items, open) {
  const count = (status) => items.filter((item) => item.status === status).length;
  $("queue-summary").textContent = Object.entries(STATES).map(([status, words]) => `${count(status)} ${words}`).join("  ·  ");
  const list = $("queue-rows").closest(".scroll");
  fill($("queue-rows"), list, items, (item) => queueRow(item, open));
  list.scrollTop = 0;
}

function queueRow(item, open) {
  const verb = item.status === "done" ? "Review" : "Open";
  const button = element("button", { type: "button", textContent: verb, onclick: () => open(item) });
  button.setAttribute("aria-label", `${verb} ${item.name}`);
  const state = element("td", { textContent: item.held ? "in work" : STATES[item.status] });
  return element(
    "tr",
    {},
    element("td", { textContent: item.name, title: item.name }),
    state,
    element("td", { textContent: item.annotator ?? "" }),
    element("td", { textContent: item.masks }),
    element("td", {}, button),
  );
}

/** Says something that went wrong, for a while; for good if that is 0. */
export function complain(text, milliseconds = 8000) {
  $("message").textContent = text;
  $("message").hidden = false;
  clearTimeout(complain.timer);
  complain.timer = milliseconds && setTimeout(() => ($("message").hidden = true), milliseconds);
}

/** Says something to those who listen rather than look. */
export function say(text) {
  $("said").textContent = text;
}

/** The annotator's name, asked for once. */
export async function signIn() {
  const known = localStorage.getItem("annotator");
  if (known) return known;
  $("sign-in").showModal();
  await new Promise((resolve) => $("sign-in").addEventListener("close", resolve, { once: true }));
  const name = $("name").value.trim();
  if (!name) return signIn();
  localStorage.setItem("annotator", name);
  return name;
}
