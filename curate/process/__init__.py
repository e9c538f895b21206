"""What surrounds the work: signals, progress, versions, and how curate is installed."""
