"""What runs the seeds: one after another, or in parallel processes."""
