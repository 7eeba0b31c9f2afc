"""Faces, plates and whatever else a table or a detector names, made unrecognisable in new pictures."""
