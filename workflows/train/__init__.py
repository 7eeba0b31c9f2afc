"""Training jobs: data in, checkpoints and model cards out."""
