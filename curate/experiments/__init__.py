"""Questions beside the scan: is influence right, which detector is best, which part of an input matters."""
