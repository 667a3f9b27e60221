"""How good a version's predictions are, and what moves its scores."""
