"""What the worker is held against: loops that are each a program of their own, and what their clients cost at the least."""
