"""Training: settings, the visible loop, averages of weights, checkpoints. Its modules are imported one by one, since
`training.settings` must be readable without torch."""
