"""curate: find the training rows that are mislabeled or that harm, from one trained PyTorch checkpoint.

This module knows the version only, so that ``import curate`` and ``curate --help`` cost nothing.
"""

__version__ = "0.1.0"
