"""The command line: main.py, main_mp.py and the rlexp command."""
