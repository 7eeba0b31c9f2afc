"""Segment Anything: image encoder, prompt encoder and mask decoder."""
