"""Which dead letters of a partition were replayed already, kept where Kafka keeps a consumer group's place.

A group's committed offset alone says "all before here", which is not enough: a replay by reason leaves gaps. So the
committed offset is the end of what was replayed without a gap, and the commit's metadata text lists the stretches
beyond it, as `+3-5,+9-9`: offsets relative to it, both ends included.
"""

from __future__ import annotations

import re
from bisect import bisect_left

MAX_METADATA_BYTES = 4_096
"""The broker's default `offset.metadata.max.bytes`."""
_STRETCH_BYTES = 41
"""The longest text of a stretch: two offsets of 19 digits, sign, dash and comma."""
_SURELY_FIT = MAX_METADATA_BYTES // _STRETCH_BYTES - 1


class Replayed:
    """The offsets replayed so far: all below `floor`, and some stretches beyond. Pure, not thread-safe."""

    def __init__(self, floor: int = 0, metadata: str = "") -> None:
        """From a commit's offset and metadata; metadata that is not ours counts as empty."""
        self._stretches: list[tuple[int, int]] = [(-1, floor)]  # half open, in order, with gaps between them
        if re.fullmatch(r"\+\d+-\d+(,\+\d+-\d+)*", metadata):
            for first, last in re.findall(r"\+(\d+)-(\d+)", metadata):
                self.add(floor + int(first), floor + int(last) + 1)

    @property
    def floor(self) -> int:
        """Everything before this offset was replayed."""
        return self._stretches[0][1]

    @property
    def metadata(self) -> str:
        """The stretches beyond the floor, for the commit; no more of them than Kafka takes."""
        floor = self.floor
        text = ",".join(f"+{first - floor}-{end - 1 - floor}" for first, end in self._stretches[1:])
        return text if len(text) <= MAX_METADATA_BYTES else text[: text.rindex(",", 0, MAX_METADATA_BYTES + 1)]

    @property
    def full(self) -> bool:
        """Whether one more stretch might be more than Kafka takes."""
        return len(self._stretches) > _SURELY_FIT and len(self.metadata) > MAX_METADATA_BYTES - _STRETCH_BYTES

    def __contains__(self, offset: int) -> bool:
        index = bisect_left(self._stretches, (offset + 1,)) - 1
        return index >= 0 and offset < self._stretches[index][1]

    def add(self, first: int, end: int) -> None:
        """Counts the offsets from `first` up to but not including `end` as replayed."""
        if first >= end:
            return
        kept = [stretch for stretch in self._stretches if stretch[1] < first or stretch[0] > end]
        merged = [stretch for stretch in self._stretches if not (stretch[1] < first or stretch[0] > end)]
        joined = (min([first, *(start for start, _ in merged)]), max([end, *(stop for _, stop in merged)]))
        self._stretches = sorted([*kept, joined])
