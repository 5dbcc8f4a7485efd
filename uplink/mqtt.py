"""One connection to an MQTT 5 broker, the same for gateways and ingestion peers.

Opens it, subscribes, publishes, hands out what arrives. Never connects again by itself, never keeps a message for
later: whoever owns the connection decides when to try again, with a new one.

Rules
- One paho client lives exactly as long as one connection, so nothing of paho's own queue outlives it or is sent twice.
- paho's callbacks only put into one queue (an exception in a callback would kill its network thread unnoticed).
- MQTT 5, QoS 1, nothing retained, clean start off, a fixed client id, session expiry 7 days.
- TLS 1.3 at least, with certificates on both sides; a plain connection only where ``insecure`` was asked for.
- A message is acknowledged by its owner when it has been dealt with (manual acknowledgement), so the broker never has
  more than ``receive_maximum`` messages in our memory, and redelivers what a crash left undone.
- Every reason code is looked at; what the broker refuses becomes one typed error (``uplink/errors.py``).
- A PUBACK says that the broker has the message. It proves nothing else.
"""

from __future__ import annotations

import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from uplink.endpoint import Endpoint, disconnected, tls_context, unreachable
from uplink.errors import BrokerAway, NotAdmitted, TooLarge, TopicDenied, Unreachable

# How long a broker keeps our subscriptions and unread messages: a long weekend without power, with a margin (FORMAT).
SESSION_EXPIRY_S = 7 * 24 * 3600
# Half a minute of silence is noticed before a batch is due again (15 s doubling); a ping costs 4 bytes.
KEEPALIVE_S = 30
# mosquitto's own default window (max_inflight_messages); bounds what unread messages cost in memory on both sides.
WINDOW = 20
# An organisation's peer has a batch of each of so many gateways under way when a commit takes half a second; of full
# ones that is 50 MiB.
PEER_WINDOW = 200
# MQTT's fixed header, topic, properties: less than this for every topic of ours.
OVERHEAD_BYTES = 512
# A broker that takes longer to read our DISCONNECT is not read to: the socket is shut.
_GOODBYE_S = 1.0
# Longest wait for the broker's word on our certificate; normally it comes at once, on a slow mobile line later.
_VERDICT_S = 1.0

_SERVER_TROUBLE = {0x88, 0x89, 0x97, 0x9F}  # unavailable, busy, quota exceeded, connection rate exceeded: waiting helps
_NO_SUBSCRIBERS = 0x10


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. ``handle`` is for :meth:`Connection.acknowledge`."""

    topic: str
    payload: bytes
    correlation: bytes
    content_type: str
    handle: int


@dataclass(frozen=True, slots=True)
class Published:
    """The broker's answer to one publish; ``reason`` is the MQTT 5 reason code, failures are 0x80 and above."""

    handle: int
    reason: int
    words: str

    @property
    def unheard(self) -> bool:
        """The broker had nobody to give it to."""
        return self.reason == _NO_SUBSCRIBERS


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended. Nothing follows."""

    error: Unreachable


@dataclass(frozen=True, slots=True)
class _Admitted:
    reason: int
    words: str
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Subscribed:
    reasons: tuple[tuple[int, str], ...]


Event = Message | Published | Lost
_Answer = TypeVar("_Answer", _Admitted, _Subscribed)


class Connection:
    """One connection, from :meth:`open` to the first :class:`Lost` or :meth:`close`. Used by one thread."""

    def __init__(self, endpoint: Endpoint, receive_maximum: int = WINDOW) -> None:
        self.endpoint = endpoint
        self.max_payload_bytes = (1 << 28) - OVERHEAD_BYTES  # until the broker says less: MQTT's own limit
        self._receive_maximum = receive_maximum
        self._window = WINDOW
        self._unanswered: set[int] = set()
        self._events: queue.SimpleQueue[Event | _Admitted | _Subscribed | None] = queue.SimpleQueue()
        self._waiting: list[Event] = []  # arrived while we waited for something else
        self._network_alive: Callable[[], bool] | None = None  # of paho's thread, known since its first callback
        self._ended = threading.Event()
        self._lost: Unreachable | None = None
        self._client = self._make_client()

    # ---- what the owner calls

    def open(self, timeout_s: float) -> None:
        """Connect and be admitted.

        Raises:
            Unreachable: one of its kinds, with advice.
        """
        deadline = time.monotonic() + timeout_s
        context = None if self.endpoint.insecure else tls_context(self.endpoint)
        if context:
            self._client.tls_set_context(context)
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(
                self.endpoint.host, self.endpoint.port, KEEPALIVE_S, clean_start=False, properties=self._wishes()
            )
        except (OSError, ValueError) as error:
            raise unreachable(self.endpoint, error) from error
        self._client.loop_start()
        try:
            admitted = self._wait_for(_Admitted, deadline, "did not answer CONNECT")
            self._admit(admitted)
        except Unreachable:
            self.close()
            raise

    def subscribe(self, filters: tuple[str, ...], timeout_s: float) -> None:
        """Subscribe with QoS 1.

        Raises:
            TopicDenied: the broker refuses one of them.
            Unreachable: the connection broke.
        """
        wishes = [(name, SubscribeOptions(qos=1)) for name in filters]
        result, _ = self._client.subscribe(wishes)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._broken("the connection broke before SUBSCRIBE")
        deadline = time.monotonic() + timeout_s
        answer = self._wait_for(_Subscribed, deadline, "did not answer SUBSCRIBE")
        for name, (reason, words) in zip(filters, answer.reasons, strict=False):
            if reason >= 0x80:
                raise TopicDenied(
                    f"{self.endpoint.address} refuses {self.endpoint.client_id} the subscription {name}: {words}"
                ).advise(f"grant 'topic read {name}' to this client in the broker's access list")

    @property
    def room(self) -> int:
        """How many more messages may be published before an answer must come."""
        return max(0, self._window - len(self._unanswered))

    def publish(self, topic: str, payload: bytes, correlation: bytes, content_type: str) -> int:
        """Send one message, once; the broker's answer arrives as :class:`Published` with the handle returned.

        Raises:
            TooLarge: the broker said that it takes no message of this size.
            Unreachable: there is no connection, or no room.
        """
        if len(payload) > self.max_payload_bytes:
            raise TooLarge(
                f"{self.endpoint.address} takes up to {self.max_payload_bytes} bytes, this message has {len(payload)}"
            ).advise("raise max_packet_size in the broker's configuration")
        if self._lost:
            raise self._lost
        if not self.room:
            raise BrokerAway(f"{self.endpoint.address} has not acknowledged the last {self._window} messages")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = correlation
        properties.ContentType = content_type
        info = self._client.publish(topic, payload, qos=1, retain=False, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._broken("the connection broke before PUBLISH")
        self._unanswered.add(info.mid)
        return info.mid

    def next(self, timeout_s: float) -> Event | None:
        """The next thing that happened, or None when nothing did in that time. After :class:`Lost`, always that."""
        if self._waiting:
            return self._seen(self._waiting.pop(0))
        if self._lost:
            return Lost(self._lost)
        event = self._get(timeout_s)
        if event is None or isinstance(event, _Admitted | _Subscribed):
            return None
        return self._seen(event)

    def wake(self) -> None:
        """Let :meth:`next` return now, with None when nothing else happened. From any thread."""
        self._events.put(None)

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message has been dealt with. Harmless when the connection is gone: it comes again."""
        self._client.ack(message.handle, 1)

    def close(self) -> None:
        """Say goodbye when possible and end the network thread; the session stays with the broker."""
        self._client.disconnect()
        if not (self._network_alive and self._ended.wait(_GOODBYE_S)):
            _shut(self._client.socket())
        self._client.loop_stop()
        self._lost = self._lost or BrokerAway(f"the connection to {self.endpoint.address} was closed by us")

    # ---- paho's side: these run on its network thread and only enqueue

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.endpoint.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(0)  # the window is ours: paho never holds a message back to send it later
        client.on_socket_open = self._prepare
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _prepare(self, _client: Client, _data: Any, sock: Any) -> None:
        """Between the handshake and CONNECT; runs inside :meth:`open`, not on paho's thread.

        The end of a batch goes out at once: Nagle's algorithm would hold it until the broker's TCP acknowledges what
        came before, which it delays by 40 ms.

        Raises:
            OSError: the connection was refused.
        """
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await_verdict(sock)

    def _await_verdict(self, sock: Any) -> None:
        """Let the broker judge our certificate before we speak.

        Under TLS 1.3 our side of the handshake ends before the broker has seen our certificate. Its session tickets say
        that it is content, an alert that it is not; had we sent something meanwhile, a reset could swallow the alert.

        Raises:
            OSError: the connection was refused.
        """
        if isinstance(sock, ssl.SSLSocket) and select.select([sock], [], [], _VERDICT_S)[0]:
            try:
                said = sock.recv(1)
            except ssl.SSLWantReadError:
                return
            raise ConnectionAbortedError(
                "it speaks before it is spoken to, so it is no MQTT broker" if said else "closed"
            )

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._network_alive = threading.current_thread().is_alive
        limits = {
            name: getattr(properties, name)
            for name in ("MaximumPacketSize", "ReceiveMaximum", "MaximumQoS")
            if hasattr(properties, name)
        }
        self._events.put(_Admitted(reason.value, str(reason), limits))

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        from_broker = flags.is_disconnect_packet_from_server
        self._events.put(Lost(disconnected(self.endpoint, from_broker, reason.value, str(reason))))
        self._ended.set()

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._events.put(_Subscribed(tuple((reason.value, str(reason)) for reason in reasons)))

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._events.put(Published(mid, reason.value, str(reason)))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        content_type = getattr(message.properties, "ContentType", "")
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # no topic of ours; the owner acknowledges it and forgets it
        self._events.put(Message(topic, bytes(message.payload), bytes(correlation), content_type, message.mid))

    # ---- waiting

    def _get(self, timeout_s: float) -> Event | _Admitted | _Subscribed | None:
        try:
            return self._events.get(timeout=max(0.0, timeout_s)) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            if self._network_alive and not self._network_alive() and not self._ended.is_set():
                return Lost(BrokerAway(f"the network thread of the connection to {self.endpoint.address} died"))
            return None

    def _seen(self, event: Event) -> Event:
        if isinstance(event, Lost):
            self._lost = event.error
            self._unanswered.clear()
        elif isinstance(event, Published):
            self._unanswered.discard(event.handle)
        return event

    def _wait_for(self, kind: type[_Answer], deadline: float, complaint: str) -> _Answer:
        while (left_s := deadline - time.monotonic()) > 0:
            event = self._get(left_s)
            if isinstance(event, kind):
                return event
            if isinstance(event, Lost):
                self._seen(event)
                raise event.error
            if isinstance(event, Message | Published):
                self._waiting.append(event)
        raise BrokerAway(f"{self.endpoint.address} {complaint} in time").advise(
            "see whether something else listens on this port, and whether the broker is overloaded"
        )

    def _admit(self, admitted: _Admitted) -> None:
        where, who = self.endpoint.address, self.endpoint.client_id
        if admitted.reason in _SERVER_TROUBLE:
            raise BrokerAway(f"{where} refuses connections for now: {admitted.words}")
        if admitted.reason >= 0x80:
            raise NotAdmitted(f"{where} does not admit {who}: {admitted.words}").advise(
                "check that the broker takes the user name from the certificate and lists it"
            )
        if admitted.limits.get("MaximumQoS", 2) < 1:
            raise NotAdmitted(f"{where} offers QoS 0 only; batches need QoS 1").advise("raise max_qos in the broker")
        self._window = min(WINDOW, admitted.limits.get("ReceiveMaximum", WINDOW))
        packet_bytes = admitted.limits.get("MaximumPacketSize", 1 << 28)
        self.max_payload_bytes = packet_bytes - OVERHEAD_BYTES

    def _wishes(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = self._receive_maximum
        properties.MaximumPacketSize = self.endpoint.max_packet_bytes
        return properties

    def _broken(self, words: str) -> Unreachable:
        while event := self._get(0.0):
            if isinstance(event, Lost):
                self._seen(event)
                return event.error
        return BrokerAway(f"{self.endpoint.address}: {words}")


def _shut(sock: Any) -> None:
    """End both directions below TLS, which wakes the network thread."""
    if isinstance(sock, socket.socket):
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass  # already gone, which is what we wanted
