"""Where metrics go; a new logger is one file here, or in a package of your own, and one yaml."""
