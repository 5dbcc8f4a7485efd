"""The chain: each statement names the one before, and nothing is signed that parsing would refuse."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import obis
from drivers.reading import Block, Reading, Value, exact
from signer import statement
from signer.chain import Chain, Descriptor
from signer.codes import Kind
from signer.errors import Malformed
from signer.keys.file import FileKey
from signer.statement import Instant, parse, stream_of, verify_signature

KEY = FileKey(ec.generate_private_key(ec.SECP256R1()))
AT = Instant(1_780_272_000_000, 12_345, 2, 4)
DIGEST = hashlib.sha256(b"map").digest()


@pytest.fixture
def chain() -> Chain:
    made = Chain("home-1", KEY, None, 3)
    made.genesis(AT, (b"certificate",))
    return made


def test_a_genesis_begins_a_stream() -> None:
    chain = Chain("home-1", KEY, None, 3)
    made = chain.genesis(AT, (b"certificate", b"issuer"), (bytes(16), 5, bytes(32)))
    claims = parse(made.data)
    assert (claims.kind, claims.seq, claims.sub) == (Kind.GENESIS, 0, "-")
    assert claims.certificates == (b"certificate", b"issuer")
    assert chain.head is not None
    assert chain.head.stream == claims.stream_id == hashlib.sha256(made.sid).digest()[:16] == stream_of(made.sid)


def test_each_names_the_one_before(chain: Chain) -> None:
    before = chain.head
    assert before is not None
    for number in range(1, 6):
        made = chain.event("-", AT, number)
        claims = parse(made.data)
        assert (claims.seq, claims.prev, claims.stream) == (number, before.sid, before.stream)
        assert verify_signature(claims, KEY.public_key)
        assert (made.seq, made.sid, made.kind, made.sub) == (claims.seq, claims.sid, claims.kind, claims.sub)
        before = chain.head
        assert before is not None


def test_a_head_that_was_not_stored_can_be_set_back(chain: Chain) -> None:
    stored = chain.head
    first = chain.event("-", AT, 1)
    chain.head = stored
    second = chain.event("-", AT, 1)
    assert (first.seq, parse(second.data).prev) == (second.seq, parse(first.data).prev)
    assert first.sid != second.sid  # the salt


def test_nothing_before_the_genesis() -> None:
    with pytest.raises(ValueError, match="begins with its genesis"):
        Chain("home-1", KEY, None, 1).event("-", AT, 1)


def test_a_second_genesis_is_a_new_stream(chain: Chain) -> None:
    old = chain.head
    assert old is not None
    chain.genesis(AT, (b"certificate",), (old.stream, old.seq, old.sid))
    assert chain.head is not None
    assert chain.head.stream != old.stream
    assert chain.head.seq == 0


def test_a_refused_genesis_moves_nothing(chain: Chain) -> None:
    before = chain.head
    with pytest.raises(Malformed):
        chain.genesis(AT, (b"",))
    assert chain.head == before


def test_a_rekey_is_signed_by_the_old_key_and_hands_over(chain: Chain) -> None:
    new = FileKey(ec.generate_private_key(ec.SECP256R1()))
    handed = parse(chain.rekey(AT, new, (b"new certificate",)).data)
    after = parse(chain.event("-", AT, 1).data)
    assert verify_signature(handed, KEY.public_key)
    assert verify_signature(after, new.public_key)
    assert handed.key_id != after.key_id


class Token:
    """A key that can be pulled out."""

    def __init__(self, store: FileKey) -> None:
        self.public_key = store.public_key
        self.rate_per_s = None
        self.there, self.signed = True, 0
        self._store = store

    def sign_digest(self, digest: bytes) -> bytes:
        if not self.there:
            raise OSError("the token was pulled out")
        self.signed += 1
        return self._store.sign_digest(digest)


def test_a_group_is_signed_after_it_was_made() -> None:
    token = Token(KEY)
    chain = Chain("home-1", token, None, 1)
    made = [chain.genesis(AT, (b"certificate",)), chain.event("-", AT, 1), chain.event("-", AT, 2)]
    assert token.signed == 0
    parsed = [parse(statement.data) for statement in made]
    assert [claims.sid for claims in parsed] == [statement.sid for statement in made]
    assert [claims.prev for claims in parsed[1:]] == [statement.sid for statement in made[:-1]]
    assert all(verify_signature(claims, KEY.public_key) for claims in parsed)
    assert [statement.data for statement in made] == [claims.data for claims in parsed]
    assert token.signed == 3, "once each"


def test_a_key_that_fails_gives_no_bytes(chain: Chain) -> None:
    token = Token(KEY)
    made = Chain("home-1", token, chain.head, 1).event("-", AT, 1)
    token.there = False
    for _ in range(2):
        with pytest.raises(OSError, match="pulled out"):
            print(made.data)
    token.there = True
    assert verify_signature(parse(made.data), KEY.public_key)


READING = Reading("meter-1", 1_780_272_000_000, None, ((264, exact(5, 0)),), 80, (Block(3, 0, b"\0\5"),))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(READING, values=(), status=None),
        replace(READING, status=0),
        replace(READING, status=256),
        replace(READING, sub="-"),
        replace(READING, sub="a/b"),
        replace(READING, sub="s" * 82),
        replace(READING, slot_ms=-1),
        replace(READING, slot_ms=1 << 64),
        replace(READING, window_ms=-1),
        replace(READING, values=((520, exact(1, 0)), (264, exact(1, 0)))),
        replace(READING, values=((264, exact(1, 0)), (264, exact(1, 0)))),
        replace(READING, values=((255, exact(1, 0)),)),
        replace(READING, values=((264, Value(10, 0)),)),
        replace(READING, values=((264, Value(0, 1)),)),
        replace(READING, values=((264, Value(0, 9)),)),
        replace(READING, values=((264, Value(1, 10)),)),
        replace(READING, values=((264, Value(1, -10)),)),
        replace(READING, values=((264, Value(1 << 64, 0)),)),
        replace(READING, values=((264, Value(-(1 << 64) - 1, 0)),)),
        replace(READING, values=((264, Value(1, 0, 65536)),)),
        replace(READING, values=((264, Value(1, 0, -1)),)),
        replace(READING, values=tuple((256 + index, exact(1, 0)) for index in range(257))),
        replace(READING, blocks=(Block(2, 0, b"\0\0"),)),
        replace(READING, blocks=(Block(3, 0, b"\0"),)),
        replace(READING, blocks=(Block(3, 0, b""),)),
        replace(READING, blocks=(Block(3, 65535, bytes(4)),)),
        replace(READING, blocks=(Block(3, 0, bytes(252)),)),
        replace(READING, blocks=(Block(3, 0, b"\0\0"),) * 65),
    ],
)
def test_a_reading_that_parsing_would_refuse_is_not_signed(chain: Chain, wrong: Reading) -> None:
    before = chain.head
    with pytest.raises(Malformed):
        chain.reading(wrong, AT)
    assert chain.head == before


@pytest.mark.parametrize(
    "at",
    [
        replace(AT, utc_ms=-1),
        replace(AT, utc_ms=1 << 64),
        replace(AT, boot_ms=-1),
        replace(AT, clock=5),
        replace(AT, clock=-1),
        replace(AT, error_ms=-1),
    ],
)
def test_an_instant_that_parsing_would_refuse_is_not_signed(chain: Chain, at: Instant) -> None:
    with pytest.raises(Malformed):
        chain.reading(READING, at)


GOOD = Descriptor(60_000, DIGEST, "map", 0, "1")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, period_ms=0),
        replace(GOOD, map_digest=DIGEST[:31]),
        replace(GOOD, map_name="m" * 257),
        replace(GOOD, role=5),
        replace(GOOD, overrides=(("b", ""), ("a", ""))),
        replace(GOOD, layout=((1, -1),)),
    ],
)
def test_a_descriptor_that_parsing_would_refuse_is_not_signed(chain: Chain, wrong: Descriptor) -> None:
    with pytest.raises(Malformed):
        chain.descriptor("meter-1", AT, wrong)
    assert parse(chain.descriptor("meter-1", AT, GOOD).data).body[13][1] == 60_000


def test_statements_about_what_they_are_about(chain: Chain) -> None:
    with pytest.raises(Malformed):
        chain.descriptor("-", AT, GOOD)
    with pytest.raises(Malformed):
        chain.exchange("-", AT, "1", ((264, exact(1, 0)),), "2", ((264, exact(1, 0)),))


def test_a_statement_that_is_too_long_is_not_signed(chain: Chain) -> None:
    before = chain.head
    blocks = tuple(Block(3, 0, bytes(250)) for _ in range(64))
    values = tuple((256 + index, exact((1 << 60) + 1 + 10 * index, -9)) for index in range(256))
    assert len(chain.reading(replace(READING, blocks=blocks[:32]), AT).data) < statement.MAX_BYTES
    chain.head = before
    with pytest.raises(Malformed, match="at most 16384"):
        chain.reading(replace(READING, blocks=blocks, values=values), AT)
    assert chain.head == before


KEYS = st.one_of(
    st.sampled_from(sorted(obis.BY_KEY)),
    st.integers(256, 65535),
    st.integers(0, (1 << 40) - 1)
    .map(lambda fields: fields + obis.LONG_FORM)
    .filter(lambda key: (key >> 24) & 0xFFFF != 0x100 or key & 0xFF or not (key >> 16) & 0xFF),
)
VALUES = st.builds(
    exact,
    st.integers(-(1 << 63), (1 << 64) - 1).filter(lambda mantissa: abs(mantissa) < 1 << 63 or mantissa % 10),
    st.integers(-9, 9),
    st.integers(0, 65535),
).filter(lambda value: -(1 << 64) <= value.mantissa < 1 << 64)
BLOCKS = st.builds(
    lambda function, address, words: Block(function, min(address, 65536 - len(words) // 2), words),
    st.integers(3, 4),
    st.integers(0, 65535),
    st.binary(min_size=2, max_size=250).map(lambda words: words[: len(words) // 2 * 2]),
)
READINGS = st.builds(
    lambda sub, slot_ms, status, values, window_ms, blocks: Reading(
        sub, slot_ms, status if values or status else 2, tuple(sorted(values.items())), window_ms, tuple(blocks)
    ),
    st.from_regex(r"[A-Za-z0-9-]{2,81}", fullmatch=True),
    st.integers(0, (1 << 64) - 1),
    st.none() | st.integers(1, 255),
    st.dictionaries(KEYS, VALUES, max_size=30),
    st.none() | st.integers(0, (1 << 64) - 1),
    st.lists(BLOCKS, max_size=8),
)


@given(READINGS, st.integers(0, (1 << 64) - 1), st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_what_is_signed_parses_to_what_was_said(reading: Reading, number: int, clock: int) -> None:
    chain = Chain("home-1", KEY, None, number)
    at = Instant(number, number, clock, number)
    chain.genesis(at, (b"certificate",))
    claims = parse(chain.reading(reading, at).data)
    assert (claims.sub, claims.slot_ms, claims.status) == (reading.sub, reading.slot_ms, reading.status)
    assert (claims.values, claims.blocks) == (reading.values, reading.blocks)
    assert claims.body.get(12) == reading.window_ms
    assert (claims.boot, claims.instant) == (number, at)
    assert verify_signature(claims, KEY.public_key)


def test_a_reading_of_twelve_quantities_is_small(chain: Chain) -> None:
    """450 bytes with the register words: 12 quantities of two registers and a gap of a few between."""
    keys = sorted([264, 520, 4103, 7943, 8199, 9223, 13063, 13319, 14343, 18183, 18439, 19463])
    values = tuple((key, exact(1_234_567 + index, -2)) for index, key in enumerate(keys))
    made = chain.reading(replace(READING, sub="sdm630", values=values, blocks=(Block(4, 0, bytes(64)),)), AT)
    assert len(made.data) <= 450


def test_claims_of_other_kinds_have_no_readings(chain: Chain) -> None:
    claims: Any = parse(chain.event("-", AT, 1).data)
    assert (claims.slot_ms, claims.status, claims.values, claims.blocks, claims.certificates) == (
        None,
        None,
        (),
        (),
        (),
    )
