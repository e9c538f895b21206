"""The stages of a scan: settings, rows and tensors meet here."""
