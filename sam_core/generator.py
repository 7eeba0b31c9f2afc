"""Automatic masks of a whole image: prompt a grid of points in every crop, keep what the recipe trusts.

    crop plan -> encode crop -> decode points -> predicted IoU -> stability, crop border, area -> RLE -> NMS in the crop
              -> NMS across crops -> small parts and holes -> NMS again

Every candidate ends as a mask or as a rejection with its reason. Steps and their order are those of the released
`automatic_mask_generator.py`; each step is a pure function of `sam_core.masks`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.masks import plain
from sam_core.masks.batch import Generation, Reason
from sam_core.masks.candidates import KEPT, Candidates, Ledger, concatenate, decoded, records
from sam_core.masks.crops import Crop, crop_plan
from sam_core.masks.nms import nms
from sam_core.masks.regions import clean_candidates
from sam_core.masks.select import judge_measures, judge_predicted_iou
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from sam_core.recipes import Recipe

Points = NDArray[np.float64]


class MaskGenerator:
    """Generates the masks of one image after another; keeps nothing between images.

    sam               the model, on the device where it is to run
    recipe            what is asked of the model and which of its masks are kept
    points_per_batch  prompts decoded at a time; a matter of memory and speed
    """

    def __init__(self, sam: Sam, recipe: Recipe, *, points_per_batch: int = 64) -> None:
        if points_per_batch < 1:
            raise ValueError(f"points_per_batch is {points_per_batch}; it must be at least 1")
        self.sam = sam
        self.recipe = recipe
        self.points_per_batch = points_per_batch

    @torch.inference_mode()
    def generate(self, image: NDArray[np.uint8]) -> Generation:
        """All masks of a uint8 RGB image [H, W, 3], the best first. Raises ValueError for any other array."""
        _check_image(image)
        size = (image.shape[0], image.shape[1])
        ledger = Ledger()
        crops = crop_plan(size, self.recipe)
        kept = concatenate([self._masks_of_crop(image, crop, ledger) for crop in crops])
        if len(crops) > 1:
            kept = self._suppress_across_crops(kept, ledger)
        if self.recipe.min_region_area > 0:
            kept = self._clean_regions(kept, size, ledger)
        return Generation(records(kept, size), ledger.rejections, ledger.seconds)

    def _masks_of_crop(self, image: NDArray[np.uint8], crop: Crop, ledger: Ledger) -> Candidates:
        """Encoded candidates of one crop after NMS, the most confident first."""
        with ledger.timed("encode"):
            embedding = encode(self.sam, [image], crop_boxes=[crop.box])
        starts = range(0, len(crop.points), self.points_per_batch)
        batches = [crop.points[start : start + self.points_per_batch] for start in starts]
        candidates = concatenate([self._masks_of_points(embedding, points, ledger) for points in batches])
        with ledger.timed("nms"):
            keep = nms(candidates.boxes, candidates.predicted_iou, threshold=self.recipe.nms_iou)
        return ledger.survivors(candidates, keep, Reason.NMS_IN_CROP)

    def _masks_of_points(self, embedding: ImageEmbedding, points: Points, ledger: Ledger) -> Candidates:
        """Encoded candidates of a batch of point prompts that pass every rule on a single mask."""
        with ledger.timed("decode"):
            batch = decode(self.sam, embedding, _foreground(points, self.sam.device), multimask=True)
        with ledger.timed("select"):
            candidates = decoded(points, batch.iou.float().cpu().numpy(), batch.frame.crop_box)
            verdicts = judge_predicted_iou(candidates, self.recipe)
            logits = batch.logits.flatten(0, 1)[torch.from_numpy(verdicts == KEPT)]
            measures = plain.measure(logits, batch.frame, offset=self.recipe.stability_offset)
            candidates = ledger.settle(candidates, verdicts).measured(measures)
            verdicts = judge_measures(candidates, batch.frame, self.recipe)
            logits = logits[torch.from_numpy(verdicts == KEPT)]
            candidates = ledger.settle(candidates, verdicts)
        with ledger.timed("rle"):
            return candidates.encoded(plain.encode(logits, batch.frame))

    def _suppress_across_crops(self, candidates: Candidates, ledger: Ledger) -> Candidates:
        """Of masks with nearly the same box, those from the smallest crop."""
        with ledger.timed("nms"):
            sides = candidates.crop_boxes[:, 2:] - candidates.crop_boxes[:, :2]
            zoom = 1 / sides.prod(axis=1).astype(np.float32)
            keep = nms(candidates.boxes, zoom, threshold=self.recipe.crop_nms_iou)
        return ledger.survivors(candidates, keep, Reason.NMS_ACROSS_CROPS)

    def _clean_regions(self, candidates: Candidates, size: tuple[int, int], ledger: Ledger) -> Candidates:
        """Masks without small parts and holes; of those that now look alike, the ones that needed no cleaning."""
        recipe = self.recipe
        with ledger.timed("regions"):
            cleaned, changed = clean_candidates(
                candidates, size, min_area=recipe.min_region_area, small_masks=recipe.small_masks
            )
        with ledger.timed("nms"):
            left = np.flatnonzero(cleaned.areas)
            threshold = max(recipe.nms_iou, recipe.crop_nms_iou)
            keep = left[nms(cleaned.boxes[left], ~changed[left], threshold=threshold)]
        return ledger.survivors(cleaned, keep, Reason.SMALL_REGION)


def _foreground(points: Points, device: torch.device) -> Prompts:
    """One foreground click per prompt: points float64 [N, 2] xy in the original frame."""
    clicks = torch.from_numpy(points).to(device)[:, None]
    return Prompts(points=clicks, labels=torch.ones(clicks.shape[:2], dtype=torch.int64, device=device))


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected a uint8 RGB image [height, width, 3], got {image.dtype} {list(image.shape)}")
