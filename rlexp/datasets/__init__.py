"""Named data sets on disk: recipes and their generation, Minari's store, other people's files."""
