"""What each of several processes takes."""

import pytest

from ornstein.processes import Processes


@pytest.mark.parametrize(("total", "count"), [(12, 4), (11, 4), (2, 3), (0, 2), (7, 1)])
def test_shares_follow_each_other_and_are_alike(total: int, count: int) -> None:
    shares = [Processes(rank, count).share(total) for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
