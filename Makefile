# Everything runs in a .venv of the clone's own; each target sets up what it needs.
