"""Which torch device the work gets: that of a cluster's workers, or of this process."""

from __future__ import annotations

import os


def choose_device(wanted: str) -> str:
    """The torch device of the workers: a GPU if the cluster, or this machine without one, has any.

    Raises ValueError for a GPU that this machine, if the work is here, does not have, and for another name of a device.
    """
    _require_known(wanted)
    if not os.environ.get("RAY_ADDRESS"):
        return device_here(wanted)
    if wanted != "auto":
        return wanted
    from workflows.ray_session import has_gpus, start_ray

    start_ray()
    return "cuda" if has_gpus() else "cpu"


def device_here(wanted: str) -> str:
    """The torch device of work in this process. Raises ValueError as `choose_device`."""
    _require_known(wanted)
    import torch

    there = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if there else "cpu"
    if wanted == "cuda" and not there:
        raise ValueError(f"--device {wanted}: torch finds no GPU on this machine; leave --device out")
    return wanted


def _require_known(wanted: str) -> None:
    """From Python any name comes here; a training on "cuda:0" would be one on the CPU."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {wanted!r}; it must be auto, cpu or cuda (CUDA_VISIBLE_DEVICES says which GPU)")
