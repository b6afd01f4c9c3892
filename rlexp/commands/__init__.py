"""The subcommands of `rlexp` that belong to some algorithms or to data; rlexp/cli.py has the rest."""
