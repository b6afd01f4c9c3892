"""Where metrics go. A new logger is one file here, or in a package of your own, and one yaml in `conf/logger/`.

`base` is the contract; `make` makes the loggers that a config names, and keeps training safe from them. metrics.jsonl
is always written, and is the truth: what a tracker lacks is given to it from there.
"""
