"""People with a brush and a model that answers at once: the annotation server and its browser app."""
