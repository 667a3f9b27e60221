"""Data, vocabulary, model and export: everything that happens before serving."""
