"""Running policies in environments: to learn from, to evaluate, to score."""
