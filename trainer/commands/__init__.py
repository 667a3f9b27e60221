"""The commands of `inferry-trainer`: their options, and what they print."""
