"""Dead letters: found, and sent back to the topic they came from."""
