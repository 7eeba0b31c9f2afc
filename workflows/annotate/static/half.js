// float16 and safetensors, read without libraries.

let table = null;

/** Uint16Array of float16 bits -> Float32Array. */
export function fromHalf(bits) {
  table ??= Float32Array.from({ length: 65536 }, (_, code) => halfValue(code));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

function halfValue(code) {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** ArrayBuffer of a safetensors file with float16 tensors -> {tensors: {name: {shape, data}}, metadata}. */
export function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: metadata, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    if (dtype !== "F16") throw new Error(`tensor ${name} is ${dtype}, not float16`);
    const bytes = buffer.slice(8 + length + from, 8 + length + to);
    tensors[name] = { shape, data: fromHalf(new Uint16Array(bytes)) };
  }
  return { tensors, metadata };
}
