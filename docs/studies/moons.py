"""What the four studies of two moons share: the points, their distance to the moons, and the figure."""

import numpy as np


def moons(count, seed):
    """Points (count, 2) near two half circles."""
    rng = np.random.default_rng(seed)
    angle, upper = rng.uniform(0, np.pi, count), rng.integers(0, 2, count)
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)), np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack(x, 1) + 0.05 * rng.normal(size=(count, 2))


def distance(x):
    """The mean distance of points (N, 2) to the nearer half circle."""
    upper = np.hypot(np.hypot(x[:, 0], x[:, 1]) - 1, np.minimum(x[:, 1], 0))
    lower = np.hypot(np.hypot(x[:, 0] - 1, x[:, 1] - 0.5) - 1, np.maximum(x[:, 1] - 0.5, 0))
    return np.minimum(upper, lower).mean()


def figure(samples, nats, file):
    """Print how far samples are from the moons and the likelihoods in nats, and draw the samples into a file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, value in nats.items():
        print(f"{name}: {value:.2f} nats")
    drawing, axes = pyplot.subplots(1, len(samples), figsize=(3 * len(samples), 3))
    for axis, (name, x) in zip(axes, samples.items(), strict=True):
        print(f"{name}: mean distance to the moons {distance(x):.3f}")
        axis.scatter(*x.T, s=2)
        axis.set_title(name)
    drawing.savefig(file)
