// Clicks to masks off the main thread: the exported decoder by ONNX Runtime Web, or logits that the server computed,
// brought to the image's own pixels.

import { readTensors } from "./half.js";
import { release, run, startRuntime } from "./runtime.js";
import { upscale } from "./upscale.js";

let ort = null;
let graphs = null; // {prepare, prepareWithMask, decode}
let features = null; // feeds of prepare
let shared = null; // what prepare said about the image without a mask prompt
let frame = null;

const handlers = { load, open, decode, finish };

onmessage = async ({ data: { id, call, args } }) => {
  try {
    postMessage({ id, result: await handlers[call](args, id) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
};

/** Starts the runtime with the graphs of the model (ArrayBuffers); says what runs it. */
async function load({ graphBytes, threads, wanted }) {
  const started = await startRuntime(graphBytes, threads, wanted);
  ({ ort, graphs } = started);
  return { provider: started.provider, threads: started.threads };
}

/** Takes an image: its frame, and its embedding (ArrayBuffer of safetensors) where it is decoded here. */
async function open({ embedding, ...place }) {
  frame = place;
  release(shared);
  features = shared = null;
  if (!embedding || !graphs) return null;
  const { tensors } = readTensors(embedding);
  features = {};
  for (const [name, { shape, data }] of Object.entries(tensors)) features[name] = new ort.Tensor("float32", data, shape);
  shared = await run(graphs.prepare, features);
  return null;
}

/** Answers a prompt: points and labels in the frame of the model input, logits of an earlier mask or null. */
async function decode({ points, labels, previous, single }, id) {
  const started = performance.now();
  const count = labels.length;
  const { side } = frame;
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
  return finish({ logits: logits.data, iou: Array.from(iou.data), single, started }, id);
}

/** The three candidates of an answer, best first; the best one is sent ahead of the others. */
function finish({ logits, iou, single, started = performance.now() }, id) {
  const { side } = frame;
  const ranked = [1, 2, 3].sort((a, b) => iou[b] - iou[a]);
  const order = single ? ranked : [0, ...ranked.slice(0, 2)];
  const candidates = [];
  for (const output of order) {
    const part = logits.slice(output * side * side, (output + 1) * side * side);
    candidates.push({ iou: iou[output], logits: part, mask: upscale(part, frame) });
    if (candidates.length === 1) postMessage({ id, first: candidates[0], milliseconds: performance.now() - started });
  }
  return { candidates, milliseconds: performance.now() - started };
}
