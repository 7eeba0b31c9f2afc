"""Procedural scenes with exact masks: what the model in the box learns from."""
