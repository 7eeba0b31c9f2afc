"""People with a brush and a model that answers at once: the annotation server and its browser app."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else ONNX Runtime, once imported, tells its makers what it does
