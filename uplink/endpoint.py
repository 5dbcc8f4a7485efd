"""A broker, who we are there, and what it means when the two do not come together.

Opens no connection: makes the TLS settings and puts errors into our words.

Rules
- TLS 1.3 at least, host name checked, certificates on both sides.
- Each way to fail has one message with the address and the file concerned, and one advice.
- Under TLS 1.3 a broker refuses a client certificate after our side of the handshake is done: an alert instead of an
  answer.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from uplink.errors import (
    BrokerAway,
    BrokerMistaken,
    BrokerUntrusted,
    IdentityUnusable,
    NotAdmitted,
    TakenOver,
    TooLarge,
    Unreachable,
)

_NOT_AUTHORISED = 0x87
_TAKEN_OVER = 0x8E
_PACKET_TOO_LARGE = 0x95
_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64  # OpenSSL's X509_V_ERR_*


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker and who we are there.

    Attributes:
        client_id: the certificate's common name and an instance number.
        ca: PEM file of the CA that issued the broker's certificate.
        certificate, key: our own, PEM.
        insecure: plain TCP; then the three files are not used.
        max_packet_bytes: largest packet we let the broker send.
    """

    host: str
    port: int
    client_id: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    max_packet_bytes: int = 1 << 20

    @property
    def address(self) -> str:
        """``host:port`` for messages."""
        return f"{self.host}:{self.port}"


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    files = {"ca": endpoint.ca, "certificate": endpoint.certificate, "key": endpoint.key}
    for name, path in files.items():
        if path is None:
            raise IdentityUnusable(f"no {name} is given for the TLS connection to {endpoint.address}").advise(
                f"set mqtt.{name}, or mqtt.insecure = true for a plain connection on a closed network"
            )
        try:
            path.read_bytes()
        except OSError as error:
            raise IdentityUnusable(f"mqtt.{name} {path} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(files["ca"])
    except ssl.SSLError as error:
        raise IdentityUnusable(f"mqtt.ca {files['ca']} holds no certificate in PEM form") from error
    try:
        context.load_cert_chain(str(files["certificate"]), files["key"], password=_no_password)
    except ssl.SSLError as error:
        raise IdentityUnusable(
            f"mqtt.certificate {files['certificate']} and mqtt.key {files['key']} do not belong together,"
            " or one of them is no PEM file"
        ).advise("compare: openssl x509 -pubkey -noout -in CERTIFICATE; openssl pkey -pubout -in KEY") from error
    return context


def _no_password() -> str:
    """An encrypted key is an error, not a question on the terminal."""
    return ""


def unreachable(endpoint: Endpoint, error: Exception) -> Unreachable:
    """What a failed connect means, in our words."""
    where = endpoint.address
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _CERT_HAS_EXPIRED:
            return BrokerUntrusted(f"the certificate of {where}, or of its CA, has expired").advise(
                "give the broker a new certificate; check this machine's clock"
            )
        if error.verify_code == _CERT_NOT_YET_VALID:
            return BrokerUntrusted(f"the certificate of {where} is not yet valid").advise("check this machine's clock")
        if error.verify_code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
            return BrokerMistaken(f"the certificate of {where} is for another name: {error.verify_message}").advise(
                "use the name that stands in the broker's certificate as mqtt.host"
            )
        return BrokerMistaken(
            f"the certificate of {where} was not issued by the CA in {endpoint.ca} ({error.verify_message})"
        ).advise("set mqtt.ca to the CA that issued the broker's certificate")
    if isinstance(error, ssl.SSLError):
        if "VERSION" in (error.reason or "").upper():
            return BrokerUntrusted(f"{where} does not speak TLS 1.3 ({error.reason})").advise(
                "set 'tls_version tlsv1.3' in the broker, and mqtt.port to its TLS port"
            )
        if "_ALERT_" in (error.reason or ""):
            return _refused_certificate(endpoint, error.reason)
        return BrokerAway(f"the TLS handshake with {where} failed: {error.reason or error}").advise(
            "set mqtt.port to the broker's TLS port"
        )
    if isinstance(error, socket.gaierror):
        return BrokerAway(f"the name {endpoint.host} is not known to the name server: {error.strerror}").advise(
            "check mqtt.host and the network"
        )
    if isinstance(error, ConnectionRefusedError):
        return BrokerAway(f"nothing listens on {where}").advise("check mqtt.host and mqtt.port; start the broker")
    if isinstance(error, TimeoutError):
        return BrokerAway(f"{where} did not answer in time").advise("check the network and the firewall")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BrokerAway(f"{where} cannot be reached: {reason}")


def _refused_certificate(endpoint: Endpoint, alert: str) -> NotAdmitted:
    """What a TLS alert about our certificate means (RFC 8446 section 6.2)."""
    ours = f"{endpoint.address} refuses our certificate {endpoint.certificate}"
    if "EXPIRED" in alert:
        return NotAdmitted(f"{ours}: it has expired").advise(
            "have a new certificate issued; check the clocks of both machines"
        )
    if "UNKNOWN_CA" in alert:
        return NotAdmitted(f"{ours}: it does not know its issuer").advise(
            "have the broker trust the CA that issued it (cafile), or use the certificate that its CA issued"
        )
    if "REVOKED" in alert:
        return NotAdmitted(f"{ours}: it has been revoked").advise("have a new certificate issued, and ask why")
    return NotAdmitted(f"{ours}: {alert.rpartition('_ALERT_')[2].lower().replace('_', ' ')}").advise(
        "look at the broker's log"
    )


def disconnected(endpoint: Endpoint, from_broker: bool, reason: int, words: str) -> Unreachable:
    """What the end of a connection means; ``from_broker``: it said so, with this reason code."""
    where, who = endpoint.address, endpoint.client_id
    if from_broker:
        if reason == _TAKEN_OVER:
            return TakenOver(f"another client connected to {where} as {who}").advise(
                "look for a second process with this certificate and instance number, or a cloned card"
            )
        if reason == _NOT_AUTHORISED:
            return NotAdmitted(f"{where} put {who} out: {words}")
        if reason == _PACKET_TOO_LARGE:
            return TooLarge(f"{where} found a message of {who} too large").advise("raise max_packet_size in the broker")
        return BrokerAway(f"{where} ended the connection of {who}: {words}")
    return BrokerAway(f"the connection to {where} broke").advise(
        f"when it keeps breaking, look for a second client called {who}, which mosquitto 2.0 does not report to us;"
        " the broker's log says more"
    )
