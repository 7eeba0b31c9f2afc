"""Measures of masks against ground truth."""
