"""Training: the visible loop, the trainer around it, checkpoints, several processes. Its modules are imported one by one."""
