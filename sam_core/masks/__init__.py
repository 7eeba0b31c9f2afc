"""Mathematics of masks: run-lengths, boxes, stability, suppression, regions and crops."""
