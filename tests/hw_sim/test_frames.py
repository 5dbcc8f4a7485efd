"""Frames: cut where they end, wrapped as the standard says, and nothing that is broken gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_sim import frames

# Published by Eastron (SDM320Y manual): voltage L1 asked for and answered.
REQUEST = bytes.fromhex("01 04 00 00 00 02 71 CB")
RESPONSE = bytes.fromhex("01 04 04 43 66 33 34 1B 38")
ADUS = st.builds(
    frames.Adu,
    st.integers(0, 255),
    st.builds(lambda rest: b"\x04" + rest, st.binary(min_size=4, max_size=4)),
    st.integers(0, 65535),
)


def test_the_crc_is_that_of_a_published_frame() -> None:
    assert frames.rtu(frames.Adu(1, REQUEST[1:-2])) == REQUEST
    assert frames.rtu(frames.Adu(1, RESPONSE[1:-2])) == RESPONSE
    assert frames.rtu_frame(REQUEST) == frames.Adu(1, REQUEST[1:-2])


@pytest.mark.parametrize("position", range(len(REQUEST)))
def test_a_frame_with_one_byte_changed_is_no_frame(position: int) -> None:
    broken = bytearray(REQUEST)
    broken[position] ^= 1
    assert frames.rtu_frame(bytes(broken)) is None


@given(st.lists(ADUS, max_size=5), st.data())
def test_a_tcp_stream_gives_the_same_requests_however_it_is_cut(adus: list[frames.Adu], data: st.DataObject) -> None:
    stream = b"".join(frames.mbap(adu) for adu in adus)
    buffer, found = bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer += stream[:size]
        stream = stream[size:]
        while (adu := frames.cut_mbap(buffer)) is not None:
            found.append(adu)
    assert found == adus


@given(st.lists(ADUS, max_size=5), st.data())
def test_an_rtu_stream_gives_the_same_requests_however_it_is_cut(adus: list[frames.Adu], data: st.DataObject) -> None:
    stream = b"".join(frames.rtu(adu) for adu in adus)
    buffer, found = bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer += stream[:size]
        stream = stream[size:]
        while (adu := frames.cut_rtu(buffer)) is not None:
            found.append(adu)
    assert found == [adu._replace(transaction=0) for adu in adus]


@pytest.mark.parametrize(
    "header", [b"\0\1\0\1\0\6\1", b"\0\1\0\0\0\2\1", b"\0\1\0\0\1\0\1", b"\0\1\1\0\0\6\1"], ids=repr
)
def test_a_header_that_is_not_modbus_ends_the_stream(header: bytes) -> None:
    with pytest.raises(frames.OutOfStep, match="no Modbus TCP header"):
        frames.cut_mbap(bytearray(header))


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_cutters(data: bytes) -> None:
    frames.rtu_frame(data)
    buffer = bytearray(data)
    while frames.cut_rtu(buffer) is not None:
        pass
    buffer = bytearray(data)
    try:
        while frames.cut_mbap(buffer) is not None:
            pass
    except frames.OutOfStep:
        pass


def test_requests_that_write_are_cut_at_their_length_too() -> None:
    adus = [frames.Adu(1, bytes.fromhex("10 0001 0002 04 00010002")), frames.Adu(2, b"\x06\0\1\0\2")]
    buffer = bytearray(b"".join(frames.rtu(adu) for adu in adus))
    assert [frames.cut_rtu(buffer), frames.cut_rtu(buffer), frames.cut_rtu(buffer)] == [*adus, None]
