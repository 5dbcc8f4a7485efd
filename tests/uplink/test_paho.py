"""When paho-mqtt calls the socket callback: :mod:`uplink.mqtt` awaits the broker's word on our certificate there."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.broker import Broker
from uplink.endpoint import tls_context


def test_the_socket_callback_comes_before_connect_and_may_refuse(broker: Broker) -> None:
    endpoint = broker.gateway("alpha")
    made = Client(CallbackAPIVersion.VERSION2, client_id=endpoint.client_id, protocol=MQTTProtocolVersion.MQTTv5)
    made.tls_set_context(tls_context(endpoint))

    def refuse(_client: Client, _data: Any, sock: Any) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        raise ConnectionAbortedError("no")

    made.on_socket_open = refuse
    with pytest.raises(ConnectionAbortedError):
        made.connect(endpoint.host, endpoint.port)
    assert "New client connected" not in broker.log()
