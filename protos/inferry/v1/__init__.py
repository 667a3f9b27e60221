"""Version 1 of our messages: Review and Result."""
