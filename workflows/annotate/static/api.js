// The server's endpoints. The token stands behind the # of the address, goes into this tab's memory, and out of sight.

const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("token")) {
  sessionStorage.setItem("token", fragment.get("token"));
  history.replaceState(null, "", location.pathname);
}

/** An answer of the server that is no success. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Refusal(response.status, await reason(response));
  return response;
}

async function reason(response) {
  try {
    const { detail } = await response.json();
    return typeof detail === "string" ? detail : detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
  } catch {
    return `the server answered ${response.status}`;
  }
}

const json = async (method, path, body) => (await call(method, path, body)).json();
const embeddingPath = (image, window) => `images/${image}/embedding${window ? `?window=${window}` : ""}`;
const bytes = async (path) => (await call("GET", path)).arrayBuffer();

let ahead = 0; // milliseconds by which the server's clock is ahead of this browser's

export async function project() {
  const answer = await json("GET", "project");
  ahead = Date.parse(answer.now) - Date.now();
  return answer;
}

/** The server's time. What several people did has an order, which their own clocks do not tell. */
export const moment = () => new Date(Date.now() + ahead).toISOString();
export const queue = () => json("GET", "queue");
export const nextImage = (annotator) => json("POST", "queue/next", { annotator });
export const hold = (image, annotator) => json("PUT", `queue/${image}/lease`, { annotator });
export const release = (image, annotator) => call("POST", `queue/${image}/release`, { annotator });
export const picture = async (image) => (await call("GET", `images/${image}/picture`)).blob();
export const embedding = (image, window) => bytes(embeddingPath(image, window));
/** Has an embedding computed, and does not wait for its bytes. */
export const embed = async (image, window) => (await call("GET", embeddingPath(image, window))).body.cancel();
export const masks = (image) => json("GET", `images/${image}/masks`);
export const decode = (prompt) => json("POST", "decode", prompt);
export const graph = (name) => bytes(`model/${name}.onnx`);
export const save = (session, part, body) => json("PUT", `sessions/${session}/parts/${part}`, body);
