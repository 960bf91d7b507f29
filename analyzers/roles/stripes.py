"""Which indices along one axis of a tensor belong together."""

from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripes:
    """The indices along one axis that belong to a part: equal stripes at equal distances.

    An index i belongs when `start <= i < stop` and `first <= (i - start) % period < first + count`. The period always
    divides the range. A contiguous range is one stripe whose period is the whole range.
    """

    start: int
    stop: int
    period: int
    first: int
    count: int

    @staticmethod
    @lru_cache(maxsize=4096)
    def span(start: int, stop: int) -> "Stripes":
        """Every index from `start` up to `stop`."""
        return Stripes(start=start, stop=stop, period=max(1, stop - start), first=0, count=max(1, stop - start))

    def shifted(self, by: int) -> "Stripes":
        """The same stripes, further along the axis."""
        return replace(self, start=self.start + by, stop=self.stop + by)

    @property
    def size(self) -> int:
        """How many indices belong; unlike `len`, without a limit."""
        return (self.stop - self.start) // self.period * self.count

    def __len__(self) -> int:
        """How many indices belong."""
        return self.size
