"""Influence held against refits: what happens when rows are really left out or relabelled (`what_if`)."""
