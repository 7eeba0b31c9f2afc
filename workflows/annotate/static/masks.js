// One mask of the picture as the app keeps it:
// {id, revision, mask, colour, hidden, proposed, source, iou, stability, point, annotator, model}.

import { moment } from "./api.js";
import { compress, decompress } from "./rle.js";
import { colourOf } from "./view.js";

const LONGEST_ID = 128; // characters that the server takes

/** A mask that the server shows; revision 0 is a proposal of a run. */
export function fromServer(shown) {
  const { mask_id: id, revision, annotator, source_mask_id: source, rle, predicted_iou: iou, stability_score: stability } = shown;
  const proposed = revision === 0;
  const mask = decompress(rle);
  return { id, revision, mask, colour: colourOf(id), hidden: false, proposed, source, iou, stability, point: shown.point, annotator, model: shown.model_id };
}

/** A mask as the server takes it; `work` says what went into this revision. */
export function toServer(entry, imageId, work) {
  const { mask, iou, stability, point, model, proposed } = entry;
  return {
    mask_id: work.id ?? entry.id,
    revision: work.revision ?? 1,
    deleted: work.deleted ?? false,
    image_id: imageId,
    source_mask_id: work.source ?? null,
    rle: compress(mask),
    model_id: model ?? null,
    predicted_iou: iou ?? null,
    stability_score: proposed ? stability : null,
    point,
    clicks: work.clicks ?? 0,
    brushed: work.brushed ?? 0,
    seconds: work.seconds ?? 0,
    created_at: moment(),
  };
}

/** The identifier of what becomes of a proposal in a task: each stage and round decides on it anew. */
export function idOf(source, { stage, round }) {
  const id = `${source}.${stage}${round === null ? "" : `.${round}`}`;
  return id.length <= LONGEST_ID ? id : newId();
}

/** A new identifier, 32 hexadecimal digits. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
