"""Where and how Inferry runs."""
