"""Crops of masks as CLIP sees them, embedded once: what text prompts are trained on."""
