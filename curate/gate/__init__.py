"""The gate of a stored run: what counts, what was accepted, what it is compared with."""
