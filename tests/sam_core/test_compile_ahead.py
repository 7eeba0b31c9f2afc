"""One call compiles what the generator needs: a photograph afterwards, with a model that ships or a wider one, asks for
nothing else in a new process."""

import subprocess
import sys

PROGRAM = """
import gc
from dataclasses import replace
from numba.core.dispatcher import Dispatcher
from skimage.data import chelsea
from sam_core.compile_ahead import compile_ahead
from sam_core.generator import MaskGenerator
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.presets import at_image_size, vit_t, vit_test
from sam_core.recipes import draft

def compiled():
    return {(d.py_func.__module__, d.py_func.__name__, s) for d in gc.get_objects() if isinstance(d, Dispatcher)
            for s in d.signatures}

compile_ahead()
before = compiled()
print(len(MaskGenerator(load_model("vit_n").sam, replace(draft(), points_per_side=8)).generate(chelsea()).masks))
everything = replace(draft(), points_per_side=2, min_predicted_iou=0, min_stability_score=0)
for config in (at_image_size(vit_t(), 128), at_image_size(vit_test(), 640)):
    MaskGenerator(Sam(config).eval(), everything).generate(chelsea())
print(len(before), compiled() - before)
"""


def test_a_photograph_needs_nothing_more() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    masks, code = done.stdout.splitlines()
    assert int(masks) > 10
    known, more = code.split(maxsplit=1)
    assert int(known) > 10
    assert more == "set()"
