"""A run folder: its layout, settings, checkpoints as files, averages, and the page about its model. No trainer is needed."""
