"""The proxy of the fault tests follows a stream of requests, however it is cut into chunks."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.proxy import Requests

BODIES = st.lists(st.binary(max_size=40), max_size=6)
CUTS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def stream(bodies: list[bytes], kind: int) -> list[bytes]:
    return [struct.pack(">Ih", 2 + len(body), kind) + body for body in bodies]


@given(bodies=BODIES, cuts=CUTS)
def test_nothing_is_withheld_or_changed_and_whole_requests_are_known(bodies: list[bytes], cuts: list[int]) -> None:
    requests, left = stream(bodies, 26), b"".join(stream(bodies, 26))
    following, known = Requests(), []
    for size in [*cuts, len(left)]:
        chunk, left = left[:size], left[size:]
        pieces = list(following.split(chunk))
        assert b"".join(piece for piece, _ in pieces) == chunk
        known += [piece for piece, kind in pieces if kind == 26]
        assert all(kind in (None, 26) for _, kind in pieces)
    assert all(piece in requests for piece in known)


@given(bodies=BODIES)
def test_requests_that_come_whole_are_all_known(bodies: list[bytes]) -> None:
    requests = stream(bodies, 28)
    assert list(Requests().split(b"".join(requests))) == [(request, 28) for request in requests]


@given(chunks=st.lists(st.binary(min_size=1, max_size=50)))
def test_another_protocol_passes_unchanged(chunks: list[bytes]) -> None:
    following = Requests()
    for chunk in chunks:
        assert b"".join(piece for piece, _ in following.split(chunk)) == chunk
