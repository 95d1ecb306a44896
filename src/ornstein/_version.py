"""The version of the library, in a module of its own: whoever writes it into a file needs nothing else."""

__version__ = "0.2.0"
