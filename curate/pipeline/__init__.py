"""A scan from start to end, and writing it down."""
