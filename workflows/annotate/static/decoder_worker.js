// Clicks to masks off the main thread: the exported decoder by ONNX Runtime Web, or logits that the server computed,
// brought to the image's own pixels. A frame is one of frame.js: the whole image, or a window of it.

import { cellsOf, gather, scatter } from "./cells.js";
import { frameOf, tokens } from "./frame.js";
import { readTensors } from "./half.js";
import { honourClicks } from "./honour.js";
import { Rehearsal } from "./rehearsal.js";
import { release, run, startRuntime } from "./runtime.js";
import { upscale } from "./upscale.js";

const UNSEEN = -1e4; // logits of what is not drawn
let ort = null;
let graphs = null; // {prepare, prepareWithMask, ask, draw}
const seen = new Map(); // key of a frame -> what is prepared of it
let turns = Promise.resolve();
let rehearsal = null;

const handlers = { load, clear, add, drop, decode, finish, move };

// One after the other: nothing is freed that a session still reads.
const takeTurn = (work) => (turns = turns.then(work));
onmessage = ({ data }) => {
  if (data.call === "decode") rehearsal?.pause();
  takeTurn(() => answer(data));
};

async function answer({ id, call, args }) {
  try {
    postMessage({ id, result: await handlers[call](args, (first) => postMessage({ id, ...first })) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
}

/** Starts the runtime with the graphs of the model (ArrayBuffers); says what runs it. */
async function load({ graphBytes, threads, wanted }) {
  const started = await startRuntime(graphBytes, threads, wanted);
  ({ ort, graphs } = started);
  if (started.provider === "wasm") {
    rehearsal = new Rehearsal(takeTurn);
    rehearsal.begin(answerToNobody);
  }
  return { provider: started.provider, threads: started.threads };
}

/** Forgets everything about an image. */
function clear() {
  for (const key of [...seen.keys()]) drop({ key });
}

/** Takes the embedding (ArrayBuffer of safetensors) of a frame. */
async function add({ frame, embedding }) {
  const { tensors } = readTensors(embedding);
  const features = {};
  for (const [name, { shape, data }] of Object.entries(tensors)) features[name] = new ort.Tensor("float32", data, shape);
  seen.set(frame.key, await prepare(frame, features));
}

/** Forgets a frame. */
function drop({ key }) {
  release(seen.get(key)?.shared);
  seen.delete(key);
}

/** Answers a prompt in a frame: points and labels in px of the model input, logits of an earlier mask or null. */
function decode(prompt, tell) {
  return respond(prompt, seen.get(prompt.frame.key), tell);
}

/** The candidates of logits that are all there. */
function finish({ started = performance.now(), ...given }, tell) {
  const answer = { ...given, started };
  return candidatesOf(answer, tellBest(answer, tell));
}

/** Logits and mask of a candidate, by so much wider (above 0) or tighter all around. */
function move({ frame, logits, by }) {
  const moved = logits.map((value) => value + by);
  return { logits: moved, mask: upscale(moved, frame) };
}

/**
 * What is kept of a frame: the feeds of prepare, what that says without a mask prompt, and the two parts that masks are
 * drawn in, which are cells and the feeds of draw that are the same every time.
 */
async function prepare(frame, features) {
  const shared = await run(graphs.prepare, features);
  const { seen: first, rest } = cellsOf(frame);
  const all = first.length + rest.length;
  const parts = [first, rest].map((cells) => ({ cells, all, fine: {} }));
  for (const name of ["cells_0", "cells_1"].filter((level) => level in shared)) {
    const values = await shared[name].getData();
    for (const { cells, fine } of parts) fine[name] = tensorOf(cells, values, all, shared[name].dims.slice(2));
  }
  return { features, shared, parts };
}

/** Some cells as a feed of draw; dims: of one cell. */
function tensorOf(cells, values, all, dims) {
  return new ort.Tensor("float32", gather(values, cells, all), [cells.length, ...dims]);
}

/**
 * The candidates of a prompt. What the picture covers is drawn and told of before the padding, which nobody sees but the
 * next prompt's mask.
 */
async function respond({ frame, points, labels, previous, single }, { features, shared, parts }, tell) {
  const started = performance.now();
  const count = labels.length;
  const { side } = frame;
  const image = previous
    ? await run(graphs.prepareWithMask, {
        ...features,
        mask_logits: new ort.Tensor("float32", previous, [1, 1, side, side]),
      })
    : shared;
  const { asked, filters, iou } = await run(graphs.ask, {
    points: new ort.Tensor("float32", Float32Array.from(points), [1, count, 2]),
    labels: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [1, count]),
    ...image,
  });
  if (previous) release(image);
  const logits = new Float32Array(filters.dims[0] * side * side).fill(UNSEEN);
  const answer = { frame, points, labels, logits, iou: Array.from(iou.data), single, started };
  const [first, rest] = parts;
  await draw(first, asked, filters, answer);
  const best = tellBest(answer, tell);
  if (rest.cells.length) await draw(rest, asked, filters, answer);
  return candidatesOf(answer, best);
}

/** Draws a part of all outputs into the answer's logits. */
async function draw({ cells, all, fine }, asked, filters, { logits, frame }) {
  const feeds = { filters, asked: tensorOf(cells, asked.data, all, asked.dims.slice(1)), ...fine };
  const { drawn } = await run(graphs.draw, feeds);
  scatter(drawn.data, cells, logits, frame.side);
}

/** Tells of the best candidate ahead of the others, and returns its mask. */
function tellBest(answer, tell) {
  const { frame, iou, started } = answer;
  const [best] = order(answer);
  const mask = upscale(logitsOf(answer, best), frame);
  tell({ first: { iou: iou[best], logits: null, mask, frame: frame.key }, milliseconds: performance.now() - started });
  return mask;
}

/** The three candidates, best first, whose mask is there already, and where each was seen. */
function candidatesOf(answer, best) {
  const { frame, iou, started } = answer;
  const candidates = order(answer).map((output, place) => {
    const logits = logitsOf(answer, output);
    return { iou: iou[output], logits, mask: place ? upscale(logits, frame) : best, frame: frame.key };
  });
  return { candidates, milliseconds: performance.now() - started };
}

/** Three outputs, best first. */
function order({ iou, single }) {
  const ranked = [1, 2, 3].sort((a, b) => iou[b] - iou[a]);
  return single ? ranked : [0, ...ranked.slice(0, 2)];
}

/** Of logits that the server computed it has seen to the clicks. */
function logitsOf({ logits, frame, points, labels = [] }, output) {
  const cells = frame.side * frame.side;
  return honourClicks(logits.slice(output * cells, (output + 1) * cells), frame, points, labels);
}

/** A click on an empty picture. */
async function answerToNobody() {
  const shapes = graphs.prepare.inputMetadata;
  const empty = ({ shape }) => new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const side = 4 * shapes[0].shape.at(-1);
  const picture = { width: 450, height: 300 };
  const frame = frameOf({ image_size: 4 * side, low_res_size: side }, picture, { x0: 0, y0: 0, x1: 450, y1: 300 });
  const prepared = await prepare(frame, Object.fromEntries(shapes.map((input) => [input.name, empty(input)])));
  const click = { ...tokens(frame, { points: [[225, 150, 1]], box: null }), previous: null, single: true };
  await respond({ frame, ...click }, prepared, () => {});
}
