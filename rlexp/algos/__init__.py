"""One file per algorithm: everything that stands in its paper's pseudocode, nothing else. They do not import each other."""
