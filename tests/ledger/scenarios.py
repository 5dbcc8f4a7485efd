"""What every ledger must answer, as data: steps with the answer each must get.

A scenario is a function from a :class:`tests.ledger.lines.World` to steps; whoever tests a ledger runs the steps
against it, in order, and compares. The rules alone, the embedded ledger and any later ledger pass the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger.rules.measurements import Gateway
from signer.batch import Batch
from signer.codes import ClockStatus
from signer.dialogue import RefusalReason
from tests.ledger.lines import START_MS, World, fingerprint

ACCEPTED, EXISTS = "accepted", "exists"
OUT_OF_ORDER = RefusalReason.OUT_OF_ORDER
FORK = RefusalReason.FORK
BAD_SIGNATURE = RefusalReason.BAD_SIGNATURE
UNKNOWN = RefusalReason.UNKNOWN_GATEWAY
MALFORMED = RefusalReason.MALFORMED
NOT_THIS = RefusalReason.NOT_THIS_GATEWAY


@dataclass(frozen=True, slots=True)
class Register:
    """Put this into the registry."""

    gateway: Gateway


@dataclass(frozen=True, slots=True)
class Send:
    """A batch arrives from ``publisher``.

    Attributes:
        answer: ``accepted``, ``exists`` or the reason of the refusal.
        last: seq that a refusal names as the ledger's last, None = stream unknown.
        fork: seq at which the refusal's evidence puts the fork.
    """

    publisher: str
    data: bytes
    answer: str | RefusalReason
    last: int | None = None
    fork: int | None = None


Step = Register | Send
Scenario = Callable[[World], list[Step]]
ALPHA, BETA = Register(Gateway("alpha")), Register(Gateway("beta"))


def ok(batch: Batch, publisher: str = "alpha") -> Send:
    return Send(publisher, batch.data, ACCEPTED)


def again(batch: Batch, publisher: str = "alpha") -> Send:
    return Send(publisher, batch.data, EXISTS)


def no(batch: Batch, reason: RefusalReason, last: int | None = None, fork: int | None = None) -> Send:
    return Send("alpha", batch.data, reason, last, fork)


# ---- the straight way


def a_stream_from_its_genesis_on(world: World) -> list[Step]:
    line = world.line().begin().grow(9)
    return [ALPHA, ok(line.batch(0, 1)), ok(line.batch(1, 4)), ok(line.batch(5, 5))]


def two_gateways_side_by_side(world: World) -> list[Step]:
    alpha, beta = world.line("alpha").begin().grow(3), world.line("beta").begin().grow(3)
    return [
        ALPHA,
        BETA,
        ok(alpha.batch(0, 2)),
        ok(beta.batch(0, 3), "beta"),
        ok(alpha.batch(2, 2)),
        ok(beta.batch(3, 1), "beta"),
    ]


def the_same_batch_again_exists(world: World) -> list[Step]:
    line = world.line().begin().grow(5)
    return [
        ALPHA,
        ok(line.batch(0, 3)),
        again(line.batch(0, 3)),
        ok(line.batch(3, 3)),
        again(line.batch(0, 3)),
        again(line.batch(3, 3)),
    ]


def the_same_sids_under_other_signatures_exist(world: World) -> list[Step]:
    line = world.line().begin().grow(5)
    return [
        ALPHA,
        ok(line.batch(0, 6)),
        again(line.signed_again(0, 6)),
        again(line.forged(0, 6, 2)),  # the sids are what is committed; a bad signature adds nothing to them
    ]


def every_kind_is_carried(world: World) -> list[Step]:
    """The rules look into genesis and rekey only."""
    return [ALPHA, ok(world.line().begin().notice().grow(1).rest(0))]


def a_rekey_changes_the_key(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    old_key = line.key
    line.rekey().grow(3)
    return [
        ALPHA,
        ok(line.batch(0, 4)),
        no(line.forged(4, 2, 4, old_key), BAD_SIGNATURE, last=3),
        ok(line.batch(4, 3)),
        again(line.batch(0, 4)),
    ]


def two_rekeys_one_batch_each(world: World) -> list[Step]:
    line = world.line().begin().rekey().rekey().grow(1)
    return [ALPHA, ok(line.batch(0, 2)), ok(line.batch(2, 1)), ok(line.batch(3, 1))]


def a_new_stream_that_recovers_the_old_one(world: World) -> list[Step]:
    old = world.line().begin().grow(4)
    new = world.line().begin((old.rest(0).stream, 2, old.statements[2].sid)).grow(2)
    return [ALPHA, ok(old.rest(0)), ok(new.rest(0)), again(old.rest(0))]


def a_new_stream_that_recovers_one_the_ledger_never_saw(world: World) -> list[Step]:
    new = world.line().begin((bytes(range(16)), 7, bytes(range(32)))).grow(2)
    return [ALPHA, ok(new.rest(0))]


# ---- out of order


def a_hole_is_out_of_order(world: World) -> list[Step]:
    line = world.line().begin().grow(9)
    return [
        ALPHA,
        ok(line.batch(0, 3)),
        no(line.batch(4, 2), OUT_OF_ORDER, last=2),
        no(line.batch(9, 1), OUT_OF_ORDER, last=2),
        ok(line.batch(3, 7)),
    ]


def an_unknown_stream_begins_at_its_genesis(world: World) -> list[Step]:
    line = world.line().begin().grow(5)
    return [ALPHA, no(line.batch(1, 5), OUT_OF_ORDER), no(line.batch(5, 1), OUT_OF_ORDER), ok(line.batch(0, 6))]


def an_overlap_with_equal_sids_is_out_of_order(world: World) -> list[Step]:
    line = world.line().begin().grow(9)
    steps: list[Step] = [ALPHA, ok(line.batch(0, 3)), ok(line.batch(3, 3))]
    for first, count in ((0, 6), (0, 2), (1, 2), (2, 2), (3, 2), (5, 1), (4, 4), (0, 10)):
        steps.append(no(line.batch(first, count), OUT_OF_ORDER, last=5))
    return [*steps, ok(line.batch(6, 4))]


def a_seq_beyond_what_a_database_holds(world: World) -> list[Step]:
    """2**63 and above does not fit a signed 64-bit integer; it must be an answer like any other."""
    line = world.line().begin().grow(2)
    unknown = world.line().begin()
    return [
        ALPHA,
        ok(line.rest(0)),
        no(line.far_away(2**63 + 5), OUT_OF_ORDER, last=2),
        no(unknown.far_away(2**64 - 1), OUT_OF_ORDER),
    ]


# ---- forks


def another_statement_at_a_known_seq_is_a_fork(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    twin = line.clone()
    line.grow(3)
    twin.grow(4)
    return [
        ALPHA,
        ok(line.batch(0, 6)),
        no(twin.batch(3, 3), FORK, last=5, fork=3),
        no(twin.batch(3, 3), FORK, last=5, fork=3),
        no(twin.batch(0, 7), FORK, last=5, fork=3),
        no(twin.batch(5, 1), FORK, last=5, fork=4),
        ok(line.grow(1).batch(6, 1)),  # the line that was there first goes on
        again(line.batch(0, 6)),
    ]


def a_prev_that_names_another_statement_is_a_fork(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    twin = line.clone()
    line.grow(3)
    twin.grow(4)
    return [ALPHA, ok(line.batch(0, 6)), no(twin.batch(6, 1), FORK, last=5, fork=5), ok(line.grow(1).batch(6, 1))]


def a_fork_across_a_rekey(world: World) -> list[Step]:
    """The clone left before the rekey, so its statements are signed with the key of that time."""
    line = world.line().begin().grow(2)
    twin = line.clone()
    line.rekey().grow(2)
    twin.grow(4)
    return [
        ALPHA,
        ok(line.batch(0, 4)),
        no(twin.batch(3, 2), FORK, last=3, fork=3),
        no(twin.batch(4, 2), FORK, last=3, fork=3),
        ok(line.batch(4, 2)),
        no(twin.batch(5, 2), FORK, last=5, fork=4),
    ]


def a_fork_that_the_gateway_did_not_sign_is_none(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    twin = line.clone()
    line.grow(3)
    twin.grow(3)
    return [
        ALPHA,
        ok(line.batch(0, 6)),
        no(twin.forged(3, 3, 4), BAD_SIGNATURE, last=5),
        no(twin.batch(3, 3), FORK, last=5, fork=3),
    ]


# ---- who may speak


def a_stranger_is_unknown(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    return [BETA, no(line.rest(0), UNKNOWN), ALPHA, ok(line.rest(0))]


def a_revoked_gateway_commits_nothing_new(world: World) -> list[Step]:
    line = world.line().begin().grow(5)
    other = world.line().begin()
    return [
        ALPHA,
        ok(line.batch(0, 3)),
        Register(Gateway("alpha", revoked=True)),
        no(line.batch(3, 3), UNKNOWN),
        no(other.rest(0), UNKNOWN),
        again(line.batch(0, 3)),
        ALPHA,
        ok(line.batch(3, 3)),
    ]


def a_batch_of_another_gateway_is_not_this_gateways(world: World) -> list[Step]:
    beta = world.line("beta").begin().grow(3)
    return [
        ALPHA,
        BETA,
        no(beta.batch(0, 2), NOT_THIS),
        ok(beta.batch(0, 2), "beta"),
        no(beta.batch(0, 2), NOT_THIS),
        no(beta.batch(2, 2), NOT_THIS),
    ]


def a_stream_stays_its_gateways(world: World) -> list[Step]:
    """Alpha, with a key of its own, cannot go on with beta's stream, nor say that it recovers it."""
    beta = world.line("beta").begin().grow(1)
    thief = world.line("alpha")
    thief.chain.head = beta.chain.head
    thief.statements = list(beta.statements)
    thief.grow(2)
    recovering = world.line("alpha").begin((beta.rest(0).stream, 1, beta.statements[1].sid))
    return [
        ALPHA,
        BETA,
        ok(beta.batch(0, 2), "beta"),
        no(thief.batch(2, 2), NOT_THIS),
        no(recovering.rest(0), NOT_THIS),
    ]


def certificates_lead_to_a_trusted_root(world: World) -> list[Step]:
    foreign = world.line("alpha", world.stranger).begin()
    wrong_name = world.line("alpha")
    wrong_name.certificate = world.authority.gateway("beta", wrong_name.key).certificate
    wrong_key = world.line("alpha")
    wrong_key.certificate = world.authority.gateway("alpha").certificate
    return [
        ALPHA,
        no(foreign.rest(0), UNKNOWN),
        no(wrong_name.begin().rest(0), UNKNOWN),
        no(wrong_key.begin().rest(0), BAD_SIGNATURE),
        ok(world.line("alpha", world.second).begin().rest(0)),
    ]


def certificates_are_judged_at_the_statements_time(world: World) -> list[Step]:
    year_ms = 366 * 24 * 3600 * 1000
    return [
        ALPHA,
        no(world.line().begin(at_ms=START_MS - year_ms).rest(0), UNKNOWN),
        no(world.line().begin(at_ms=START_MS + year_ms).rest(0), UNKNOWN),
        ok(world.line().begin(at_ms=START_MS + year_ms // 2).rest(0)),
    ]


def a_gateway_that_does_not_know_the_time_is_judged_at_the_blocks(world: World) -> list[Step]:
    expired = world.line()
    expired.certificate = world.authority.gateway("alpha", expired.key, days=(-10, -1)).certificate
    return [
        ALPHA,
        no(world.line().begin(at_ms=0).rest(0), UNKNOWN),
        ok(world.line().begin(at_ms=0, clock=ClockStatus.FAILED).rest(0)),
        ok(world.line().begin(at_ms=0, clock=ClockStatus.UNKNOWN).rest(0)),
        no(expired.begin(at_ms=0, clock=ClockStatus.UNKNOWN).rest(0), UNKNOWN),
    ]


def a_registered_root_shuts_the_other_one_out(world: World) -> list[Step]:
    pinned = Register(Gateway("alpha", root=fingerprint(world.authority.certificate)))
    return [
        pinned,
        no(world.line("alpha", world.second).begin().rest(0), UNKNOWN),
        ok(world.line("alpha").begin().rest(0)),
    ]


def a_registered_certificate_shuts_the_others_out(world: World) -> list[Step]:
    line, other = world.line().begin().grow(2), world.line().begin()
    pinned = Gateway("alpha", certificate=fingerprint(line.certificate))
    old = world.line(key=line.key)
    old.certificate = line.certificate
    line.rekey()
    new = world.line(key=line.key)
    new.certificate = line.certificate
    return [
        Register(pinned),
        no(other.rest(0), UNKNOWN),
        ok(line.batch(0, 4)),
        ok(new.begin().rest(0)),  # the rekey moved the pin
        no(old.begin().rest(0), UNKNOWN),
    ]


def a_rekey_to_an_untrusted_certificate(world: World) -> list[Step]:
    line = world.line().begin()
    foreign, named = line.clone(), line.clone()
    foreign.rekey(world.stranger)
    named.rekey(certificate=world.authority.gateway("beta").certificate)
    return [
        ALPHA,
        ok(line.batch(0, 1)),
        no(foreign.batch(1, 1), UNKNOWN, last=0),
        no(named.batch(1, 1), UNKNOWN, last=0),
        ok(line.grow(1).batch(1, 1)),
    ]


# ---- bad signatures and bad bytes


def one_bad_signature_refuses_the_batch(world: World) -> list[Step]:
    line = world.line().begin().grow(5)
    steps: list[Step] = [ALPHA]
    steps += [no(line.forged(0, 6, bad), BAD_SIGNATURE) for bad in (0, 3, 5)]
    steps += [ok(line.batch(0, 3))]
    steps += [no(line.forged(3, 3, bad), BAD_SIGNATURE, last=2) for bad in (3, 4, 5)]
    return [*steps, ok(line.batch(3, 3))]


def malformed_batches_do_not_disturb_the_others(world: World) -> list[Step]:
    line = world.line().begin().grow(2)
    good = line.batch(0, 3)
    broken = (b"", b"\x00", b"\xff" * 100, good.data[:-1], good.data + b"\x00", good.data.replace(good.root, bytes(32)))
    return [ALPHA, *(Send("alpha", data, MALFORMED) for data in broken), ok(good)]


SCENARIOS: tuple[Scenario, ...] = (
    a_stream_from_its_genesis_on,
    two_gateways_side_by_side,
    the_same_batch_again_exists,
    the_same_sids_under_other_signatures_exist,
    every_kind_is_carried,
    a_rekey_changes_the_key,
    two_rekeys_one_batch_each,
    a_new_stream_that_recovers_the_old_one,
    a_new_stream_that_recovers_one_the_ledger_never_saw,
    a_hole_is_out_of_order,
    an_unknown_stream_begins_at_its_genesis,
    an_overlap_with_equal_sids_is_out_of_order,
    a_seq_beyond_what_a_database_holds,
    another_statement_at_a_known_seq_is_a_fork,
    a_prev_that_names_another_statement_is_a_fork,
    a_fork_across_a_rekey,
    a_fork_that_the_gateway_did_not_sign_is_none,
    a_stranger_is_unknown,
    a_revoked_gateway_commits_nothing_new,
    a_batch_of_another_gateway_is_not_this_gateways,
    a_stream_stays_its_gateways,
    certificates_lead_to_a_trusted_root,
    certificates_are_judged_at_the_statements_time,
    a_gateway_that_does_not_know_the_time_is_judged_at_the_blocks,
    a_registered_root_shuts_the_other_one_out,
    a_registered_certificate_shuts_the_others_out,
    a_rekey_to_an_untrusted_certificate,
    one_bad_signature_refuses_the_batch,
    malformed_batches_do_not_disturb_the_others,
)
