"""The data engine's rounds: annotate, train, measure, promote or not, and again."""
