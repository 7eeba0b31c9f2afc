"""Models against true masks and boundaries, as the paper measures them."""
