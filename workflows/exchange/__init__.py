"""Masks out of a data set into the formats of others, and the other way round."""
