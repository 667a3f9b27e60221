"""Pushes reviews, reads results, handles dead letters."""
