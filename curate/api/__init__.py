"""Doors for those who work in Python, beside the command line."""
