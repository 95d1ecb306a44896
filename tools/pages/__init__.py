"""The documentation site: `make docs` runs `python -m tools.pages`."""
