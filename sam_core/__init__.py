"""The model and the mathematics of masks: torch, numpy, opencv and numba; no Ray, no storage, no tables."""
