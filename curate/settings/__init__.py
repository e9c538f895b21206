"""Settings: options, files and their order, and the grammar of specs. Standard library only."""
