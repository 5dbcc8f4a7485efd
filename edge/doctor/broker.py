"""The broker: does it listen, is it who it should be, does it take our certificate.

Says nothing in MQTT: a CONNECT under the gateway's client id would put the running gateway out.

Rules
- The same TLS settings as the gateway's, and the same words for what goes wrong (uplink.endpoint).
- Under TLS 1.3 the broker judges our certificate after our side of the handshake is done: its word is waited for.
- What its access list grants shows only when something is published; the running gateway says it then.
"""

from __future__ import annotations

import datetime as dt
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from edge.config import Mqtt
from edge.doctor.finding import BROKER, OPERATOR, Case, Finding, State, advice_of, advised, lasts, unknown, unseen, well
from uplink.endpoint import Endpoint, tls_context, unreachable
from uplink.errors import BrokerMistaken, BrokerUntrusted, IdentityUnusable, NotAdmitted, Unreachable

AREA = "broker"
_CONNECT_S = 3.0
_VERDICT_S = 1.0
_ACL = "what its access list grants cannot be known from here"


def check(case: Case) -> Iterator[Finding]:
    """The way to the broker."""
    mqtt = case.config.mqtt
    if mqtt is None:
        yield unknown(AREA, "", "there is no [mqtt], so nothing is sent")
        return
    for alarm in case.alarms("broker"):
        yield advised(AREA, State.WRONG, "", f"the gateway says: {alarm.words}", BROKER, "the broker's log")
    for each in look(_endpoint(mqtt, case.config.gateway), case.now_ms):
        yield unseen(AREA, each.place, each.words) if case.hides(each.words) else each


def look(endpoint: Endpoint, now_ms: int) -> Iterator[Finding]:
    """Connect, shake hands, leave."""
    place = endpoint.address
    began_s = time.monotonic()
    try:
        if endpoint.insecure:
            socket.create_connection((endpoint.host, endpoint.port), _CONNECT_S).close()
            words = f"listens; plain MQTT, neither side proves who it is; {_ACL}"
            yield Finding(AREA, State.WARNING, place, words, OPERATOR, "TLS, unless the network is a closed one")
            return
        server = _handshake(endpoint)
    except (Unreachable, OSError, ValueError) as error:
        yield _failed(place, error if isinstance(error, Unreachable) else unreachable(endpoint, error))
        return
    took_ms = (time.monotonic() - began_s) * 1000
    yield well(AREA, place, f"answers within {took_ms:.0f} ms, TLS 1.3, and takes our certificate; {_ACL}")
    until = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(server["notAfter"]), dt.UTC)
    yield lasts(AREA, "its certificate", f"for {endpoint.host}, ", until, now_ms, BROKER)


def _handshake(endpoint: Endpoint) -> dict[str, Any]:
    """The server's certificate, after it took ours.

    Raises:
        Unreachable, OSError: it did not come to that.
    """
    context = tls_context(endpoint)
    with (
        socket.create_connection((endpoint.host, endpoint.port), _CONNECT_S) as plain,
        context.wrap_socket(plain, server_hostname=endpoint.host) as line,
    ):
        line.setblocking(False)
        if select.select([line], [], [], _VERDICT_S)[0]:
            try:
                if not line.recv(1):
                    raise ConnectionAbortedError("closed")
            except ssl.SSLWantReadError:
                pass  # session tickets: it is content
        return line.getpeercert() or {}


def _failed(place: str, error: Unreachable) -> Finding:
    own = isinstance(error, IdentityUnusable)
    otherwise = "the files that [mqtt] names" if own else "the broker's log"
    if isinstance(error, BrokerUntrusted | NotAdmitted):
        otherwise = "ask whoever runs the broker"
    move = OPERATOR if own or isinstance(error, BrokerMistaken) else BROKER
    return Finding(AREA, State.WRONG, place, str(error), move, advice_of(error, otherwise))


def _endpoint(mqtt: Mqtt, gateway: str) -> Endpoint:
    return Endpoint(
        mqtt.host, mqtt.port, f"gw-{gateway}-{mqtt.instance}", mqtt.ca, mqtt.certificate, mqtt.key, mqtt.insecure
    )
