"""One call compiles what the generator needs: a photograph afterwards, in a new process, asks for nothing else."""

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
from sam_core.recipes import draft

def compiled():
    return {(d.py_func.__module__, d.py_func.__name__, s) for d in gc.get_objects() if isinstance(d, Dispatcher)
            for s in d.signatures}

compile_ahead()
before = compiled()
print(len(MaskGenerator(load_model("vit_n").sam, replace(draft(), points_per_side=8)).generate(chelsea()).masks))
print(len(before), compiled() - before)
"""


def test_a_photograph_needs_nothing_more() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    masks, code = done.stdout.splitlines()
    assert int(masks) > 10
    known, more = code.split(maxsplit=1)
    assert int(known) > 10
    assert more == "set()"
