"""Experience in memory, as arrays: recorded data sets, trajectories, replay, labelled pairs; knows no files."""
