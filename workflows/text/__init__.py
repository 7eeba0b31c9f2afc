"""Text prompts in use: one image on the command line, and tags for the masks of a data set."""
