// The server's endpoints, beside this file: a proxy may put a path before all of them. The token stands behind the # of
// the address, goes into this tab's memory, and out of sight.

function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  if (!fragment.has("token")) return;
  sessionStorage.setItem("token", fragment.get("token"));
  history.replaceState(null, "", location.pathname + location.search);
}

addEventListener("hashchange", takeToken); // of an address put into this tab, for which a browser loads nothing anew

/** An answer that is no success; `isOurs` where it is the server's own, and not that of a proxy before it. */
export class Refusal extends Error {
  constructor(status, message, isOurs) {
    super(message);
    [this.status, this.isOurs] = [status, isOurs];
  }
}

let taskKey = null; // of the task that this page was opened for

/** Milliseconds that an answer may take. Of a computer that is gone or stands still a browser hears nothing for many minutes. */
const PATIENCE = { note: 120_000, work: 600_000, character: 0.1 }; // what is sent, at 10 KB/s at least

/** A request that is for the task of this page alone: a server that has another one by now refuses it (412). */
const ask = (method, path, body, patience = PATIENCE.work) =>
  call(method, path, body, patience, taskKey ? { "X-Task": taskKey } : {});

async function call(method, path, content, patience, headers = {}) {
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (content !== undefined) headers["Content-Type"] = "application/json";
  const body = content && JSON.stringify(content);
  const signal = endOf(patience + PATIENCE.character * (body?.length ?? 0));
  const response = await fetch(new URL(`api/${path}`, import.meta.url), { method, headers, body, signal });
  if (!response.ok) throw await refusal(response);
  return response;
}

/** A signal that ends a request, and the reading of its answer, after that time. */
function endOf(milliseconds) {
  const end = new AbortController();
  const late = new Error(`the server has not answered for ${Math.round(milliseconds / 1000)} s`);
  setTimeout(() => end.abort(late), milliseconds);
  return end.signal;
}

async function refusal(response) {
  const { status } = response;
  try {
    const { detail } = await response.json();
    const reason = typeof detail === "string" ? detail : detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
    return new Refusal(status, reason, true);
  } catch {
    return new Refusal(status, `the server answered ${status}`, false);
  }
}

const json = async (...asked) => keepTime(await ask(...asked)).json();
const embeddingPath = (image, window) => `images/${image}/embedding${window ? `?window=${window}` : ""}`;
const bytes = async (path) => (await ask("GET", path)).arrayBuffer();

const JUMP = 60_000; // milliseconds; the header Date has seconds, and some may pass on the way
let ahead = 0; // milliseconds by which the server's clock is ahead of this browser's

/** Looks at the server's clock again, as this browser's may have been put right meanwhile. Not for what caches keep. */
function keepTime(response) {
  const off = Date.parse(response.headers.get("Date")) - Date.now() - ahead;
  if (Math.abs(off) > JUMP) ahead += off;
  return response;
}

export async function project() {
  takeToken();
  const answer = await json("GET", "project");
  taskKey = answer.task_key;
  ahead = Date.parse(answer.now) - Date.now();
  return answer;
}

/** The server's time. What several people did has an order, which their own clocks do not tell. */
export const moment = () => new Date(Date.now() + ahead).toISOString();
export const queue = () => json("GET", "queue");
export const nextImage = (annotator) => json("POST", "queue/next", { annotator }, PATIENCE.note);
export const hold = (image, annotator) => json("PUT", `queue/${image}/lease`, { annotator }, PATIENCE.note);
export const release = (image, annotator) => ask("POST", `queue/${image}/release`, { annotator }, PATIENCE.note);
export const picture = async (image) => (await ask("GET", `images/${image}/picture`)).blob();
export const embedding = (image, window) => bytes(embeddingPath(image, window));
/** Has an embedding computed, and does not wait for its bytes. */
export const embed = async (image, window) => (await ask("GET", embeddingPath(image, window))).body.cancel();
export const masks = (image) => json("GET", `images/${image}/masks`);
export const decode = (prompt) => json("POST", "decode", prompt);
export const graph = (name) => bytes(`model/${name}.onnx`);

/**
 * A save says itself what it was made for, and any server of the data set takes it. It is kept where the answer names it:
 * a network that asks to log in answers all requests by 200, too.
 */
export async function save(session, part, body) {
  const response = await call("PUT", `sessions/${session}/parts/${part}`, body, PATIENCE.note);
  const kept = await response.json();
  if (kept.session !== session || kept.part !== part) throw new Error("another program answers for the server");
  keepTime(response);
}
