"""What runs jobs: one after another, in parallel processes; a package of yours may add others. Knows no experiments."""
