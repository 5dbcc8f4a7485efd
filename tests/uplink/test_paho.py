"""What paho-mqtt does that this folder is built around: an upgrade that changes it turns red here first."""

from __future__ import annotations

import signal
import ssl
import threading
import time
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from tests.broker import Broker
from uplink import topics
from uplink.endpoint import Endpoint, tls_context

PATIENCE_S = 10.0


def client(endpoint: Endpoint, reconnect: bool) -> Client:
    made = Client(
        CallbackAPIVersion.VERSION2,
        client_id=endpoint.client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=reconnect,
    )
    made.tls_set_context(tls_context(endpoint))
    return made


def test_the_socket_callback_comes_before_connect_and_may_refuse(broker: Broker) -> None:
    endpoint = broker.gateway("alpha")
    made = client(endpoint, False)

    def refuse(_client: Client, _data: Any, sock: Any) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        raise ConnectionAbortedError("no")

    made.on_socket_open = refuse
    with pytest.raises(ConnectionAbortedError):
        made.connect(endpoint.host, endpoint.port)
    assert "New client connected" not in broker.log()


def test_an_exception_in_a_callback_ends_the_network_thread_unnoticed(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hence: callbacks only enqueue, and a connection watches its thread."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    endpoint = broker.gateway("alpha")
    made = client(endpoint, False)
    threads: list[threading.Thread] = []

    def fail(*_: Any) -> None:
        threads.append(threading.current_thread())
        raise RuntimeError("a bug in a callback")

    made.on_connect = fail
    made.connect(endpoint.host, endpoint.port)
    made.loop_start()
    deadline = time.monotonic() + PATIENCE_S
    while not threads or threads[0].is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.is_connected()


def test_a_message_published_while_offline_is_sent_later(broker: Broker) -> None:
    """Hence: a client lives as long as one connection."""
    endpoint = broker.gateway("alpha")
    made = client(endpoint, False)
    answered = threading.Event()
    made.on_publish = lambda *_: answered.set()
    made.connect(endpoint.host, endpoint.port)
    broker.stop(signal.SIGKILL)
    while made.loop(0.1) == MQTTErrorCode.MQTT_ERR_SUCCESS:
        pass
    assert made.publish(topics.batch("alpha"), b"x", qos=1).rc == MQTTErrorCode.MQTT_ERR_NO_CONN
    broker.start()
    made.reconnect()
    deadline = time.monotonic() + PATIENCE_S
    while not answered.is_set():
        assert time.monotonic() < deadline
        made.loop(0.1)
    made.disconnect()
