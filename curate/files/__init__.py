"""Files from strangers, read with care; the standard library alone."""
