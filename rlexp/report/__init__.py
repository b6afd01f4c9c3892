"""What is made of finished and running runs: curves, comparisons, films, references."""
