"""All benchmarks in turn: `make bench`, or `python -m benchmarks [RUN ...]` to measure trained runs as well.

Writes benchmarks/results/: *.json with every number, *.md with the tables of docs/measured.md, and the plot of errors.
"""

import sys

from benchmarks import likelihood, overhead, problems, solvers, trained


def main(runs: list[str]) -> None:
    print(overhead.run())
    print(solvers.run(problems.ALL))
    print(likelihood.run())
    if runs:
        print(trained.run(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
