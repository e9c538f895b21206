"""Which rows broke which rule."""
