"""The commands of `inferry-producer`: their options, and what they print."""
