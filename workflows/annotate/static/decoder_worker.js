// Clicks to masks off the main thread: the exported decoder by ONNX Runtime Web, or logits that the server computed,
// brought to the image's own pixels. A frame is one of frame.js: the whole image, or a window of it.

import { readTensors } from "./half.js";
import { release, run, startRuntime } from "./runtime.js";
import { upscale } from "./upscale.js";

let ort = null;
let graphs = null; // {prepare, prepareWithMask, decode}
const seen = new Map(); // key of a frame -> {features: feeds of prepare, shared: what it said without a mask prompt}
let turns = Promise.resolve();

const handlers = { load, clear, add, drop, decode, finish };

// One after the other: nothing is freed that a session still reads.
onmessage = ({ data }) => (turns = turns.then(() => answer(data)));

async function answer({ id, call, args }) {
  try {
    postMessage({ id, result: await handlers[call](args, id) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
}

/** Starts the runtime with the graphs of the model (ArrayBuffers); says what runs it. */
async function load({ graphBytes, threads, wanted }) {
  const started = await startRuntime(graphBytes, threads, wanted);
  ({ ort, graphs } = started);
  return { provider: started.provider, threads: started.threads };
}

/** Forgets everything about an image. */
function clear() {
  for (const key of [...seen.keys()]) drop({ key });
}

/** Takes the embedding (ArrayBuffer of safetensors) of a frame. */
async function add({ key, embedding }) {
  const { tensors } = readTensors(embedding);
  const features = {};
  for (const [name, { shape, data }] of Object.entries(tensors)) features[name] = new ort.Tensor("float32", data, shape);
  seen.set(key, { features, shared: await run(graphs.prepare, features) });
}

/** Forgets a frame. */
function drop({ key }) {
  release(seen.get(key)?.shared);
  seen.delete(key);
}

/** Answers a prompt in a frame: points and labels in px of the model input, logits of an earlier mask or null. */
async function decode({ frame, points, labels, previous, single }, id) {
  const started = performance.now();
  const count = labels.length;
  const { side } = frame;
  const { features, shared } = seen.get(frame.key);
  const image = previous
    ? await run(graphs.prepareWithMask, {
        ...features,
        mask_logits: new ort.Tensor("float32", previous, [1, 1, side, side]),
      })
    : shared;
  const { logits, iou } = await run(graphs.decode, {
    points: new ort.Tensor("float32", Float32Array.from(points), [1, count, 2]),
    labels: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [1, count]),
    ...image,
  });
  if (previous) release(image);
  return finish({ frame, logits: logits.data, iou: Array.from(iou.data), single, started }, id);
}

/** The three candidates of an answer, best first, and where each was seen; the best one is sent ahead of the others. */
function finish({ frame, logits, iou, single, started = performance.now() }, id) {
  const { side } = frame;
  const ranked = [1, 2, 3].sort((a, b) => iou[b] - iou[a]);
  const order = single ? ranked : [0, ...ranked.slice(0, 2)];
  const candidates = [];
  for (const output of order) {
    const part = logits.slice(output * side * side, (output + 1) * side * side);
    candidates.push({ iou: iou[output], logits: part, mask: upscale(part, frame), frame: frame.key });
    if (candidates.length === 1) postMessage({ id, first: candidates[0], milliseconds: performance.now() - started });
  }
  return { candidates, milliseconds: performance.now() - started };
}
