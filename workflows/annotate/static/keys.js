// Every key, what it does, and the sheet that shows it. A key is `event.key` in lower case with Ctrl+ or Shift+ in front.

const KEYS = [
  ["P", "points: left click is object, right or Shift is background", ["p"], "tool:points"],
  ["R", "box", ["r"], "tool:box"],
  ["T", "say what to find, where the server reads text; clicks go on from there", ["t"], "ask"],
  ["B", "brush", ["b"], "tool:brush"],
  ["E", "eraser", ["e"], "tool:eraser"],
  ["V", "choose a mask to edit", ["v"], "tool:select"],
  ["M", "move the picture (also middle button)", ["m"], "tool:pan"],
  ["[ ]", "brush smaller, larger", ["["], "smaller"],
  ["", "", ["]"], "larger"],
  ["1 2 3", "candidate", ["1"], "candidate:0"],
  ["", "", ["2"], "candidate:1"],
  ["", "", ["3"], "candidate:2"],
  ["C", "next candidate", ["c"], "candidate:next"],
  [", .", "mask tighter, wider all around", [","], "tighter"],
  ["", "", ["."], "wider"],
  ["Enter", "save the mask", ["enter"], "save"],
  ["Esc", "discard the mask", ["escape"], "discard"],
  ["Del", "delete the mask in work", ["delete", "backspace"], "delete"],
  ["Z", "undo (also Ctrl+Z)", ["z", "ctrl+z"], "undo"],
  ["Y", "redo (also Ctrl+Y)", ["y", "ctrl+y", "ctrl+shift+z", "shift+z"], "redo"],
  ["G", "fill holes", ["g"], "holes"],
  ["L", "keep the largest part", ["l"], "largest"],
  ["H", "hide or show masks", ["h"], "toggle"],
  ["J", "edit the next mask of the list", ["j"], "next-mask"],
  ["+ - 0", "zoom in, out, whole picture (also wheel)", ["+", "="], "zoom-in"],
  ["", "", ["-"], "zoom-out"],
  ["", "", ["0"], "fit"],
  ["Arrows", "move the crosshair; Shift: far; Ctrl or Cmd: the picture", [], ""],
  ["Space", "use the tool at the crosshair; Shift: background", [], ""],
  ["N", "finish the image, take the next", ["n"], "finish"],
  ["K", "skip the image", ["k"], "skip"],
  ["A", "accept (in review)", ["a"], "accept"],
  ["Q", "list of images", ["q"], "queue"],
  ["?", "this sheet", ["?", "shift+?"], "help"],
];

const ACTIONS = new Map(KEYS.flatMap(([, , keys, action]) => keys.map((key) => [key, action])));

/** A key that says a letter of another script than ours, which none of the above can be. */
const OTHER_SCRIPT = /^[^\p{Script=Latin}\p{Script=Common}]/u;
const DIGIT = /^Digit\d$/;
const BRACKETS = { BracketLeft: "[", BracketRight: "]" };

/**
 * The action of a key event, or undefined. Where the keyboard has no Latin letters, or digits only with Shift, a key means
 * what it does on an American one.
 */
export function actionOf(event) {
  const { key, code, shiftKey, altKey } = event;
  const said = meaning(event, key);
  const isElsewhere = OTHER_SCRIPT.test(key) ? !altKey : DIGIT.test(code) && !shiftKey;
  return said ?? (isElsewhere ? meaning(event, BRACKETS[code] ?? code.replace(/^(Key|Digit)/, "")) : undefined);
}

function meaning({ ctrlKey, metaKey, shiftKey }, name) {
  const key = name.toLowerCase();
  const shifted = shiftKey && key.length === 1 && /[a-z]/.test(key);
  return ACTIONS.get(`${ctrlKey || metaKey ? "ctrl+" : ""}${shifted ? "shift+" : ""}${key}`);
}

/** Fills the sheet. */
export function writeSheet(list) {
  for (const [keys, meaning] of KEYS) {
    if (!keys) continue;
    const term = document.createElement("dt");
    for (const key of keys.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    list.append(term, Object.assign(document.createElement("dd"), { textContent: meaning }));
  }
}
