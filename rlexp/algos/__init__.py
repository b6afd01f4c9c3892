"""One file per algorithm: what stands in its paper's pseudocode, nothing else. They do not import each other."""
