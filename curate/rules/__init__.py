"""What may be wrong with a row."""
