"""The audit of a data set: what it is like, beside others, and how good its masks are."""
