// ONNX Runtime Web on the GPU where there is one, else on the CPU (WASM with SIMD, and threads where the browser allows).

const file = (name) => new URL(`runtime/${name}`, import.meta.url).href;
const PROVIDERS = {
  webgpu: { module: file("ort.webgpu.bundle.min.mjs"), wasm: file("ort-wasm-simd-threaded.asyncify.wasm") },
  wasm: { module: file("ort.wasm.bundle.min.mjs"), wasm: file("ort-wasm-simd-threaded.wasm") },
};

/**
 * Sessions of the graphs {prepare, prepare_with_mask, ask, draw} (ArrayBuffers) on the best provider that takes them; with
 * the runtime, the provider's name and the number of threads. `wanted` is a provider's name, or null for the best.
 */
export async function startRuntime(graphBytes, threads, wanted) {
  let failure = null;
  for (const provider of await providers(wanted)) {
    try {
      return await start(provider, graphBytes, threads);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** A GPU that is a CPU in disguise counts only when it is asked for. */
async function providers(wanted) {
  const adapter = wanted === "wasm" ? null : await navigator.gpu?.requestAdapter();
  return adapter && (wanted === "webgpu" || !adapter.info.isFallbackAdapter) ? ["webgpu", "wasm"] : ["wasm"];
}

async function start(provider, graphBytes, threads) {
  const { module, wasm } = PROVIDERS[provider];
  const ort = await import(module);
  ort.env.wasm.wasmPaths = { wasm };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  ort.env.logLevel = "error";
  // Threads that wait by spinning take the cores from the page, which has a mask to paint: a quarter of a click of vit_n.
  const extra = { session: { intra_op: { allow_spinning: "0" } } };
  const always = { executionProviders: [provider], graphOptimizationLevel: "all", extra };
  const session = (bytes, more = {}) => ort.InferenceSession.create(new Uint8Array(bytes), { ...always, ...more });
  const stays = provider === "webgpu" ? { preferredOutputLocation: "gpu-buffer" } : {}; // what ask reads again
  const graphs = {
    prepare: await session(graphBytes.prepare, stays),
    prepareWithMask: await session(graphBytes.prepare_with_mask, stays),
    ask: await session(graphBytes.ask),
    draw: await session(graphBytes.draw),
  };
  return { ort, graphs, provider, threads: ort.env.wasm.numThreads };
}

/** Outputs of a session by name. */
export function run(session, feeds) {
  return session.run(Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]])));
}

/** Frees what a session left on the GPU. */
export function release(tensors) {
  for (const tensor of Object.values(tensors ?? {})) tensor.dispose();
}
