"""All that a map says, as JSON: `aigeco maps show --json`, beside the keys of `aigeco maps list --json`.

Rules
- Keys are never renamed; factors are exact decimal text, raw patterns hexadecimal text.
"""

from __future__ import annotations

from drivers import obis
from drivers.map import Field, Identify, MeterMap, Register
from drivers.reading import Value
from edge.cli.mapshow import MARKS, plans


def entries(one: MeterMap) -> dict[str, object]:
    """What is known of a map beside its row in the list."""
    serial, tcp, identify = one.serial, one.tcp, one.identify
    return {
        "settlement_reason": one.settlement_reason,
        "sources": list(one.sources),
        "digest": one.digest.hex(),
        "points": list(one.points),
        "serial": serial
        and {
            "baud": serial.baud,
            "parity": serial.parity,
            "stopbits": serial.stopbits,
            "unit": serial.unit,
            "verified": serial.verified,
        },
        "tcp": tcp and {"port": tcp.port, "unit": tcp.unit},
        "limits": {
            "max_registers": one.max_registers,
            "max_gap": one.max_gap,
            "even_only": one.even_only,
            "functions_equivalent": one.functions_equivalent,
            "min_delay_ms": one.min_delay_ms,
            "connect_delay_ms": one.connect_delay_ms,
            "timeout_ms": one.timeout_ms,
            "forbidden": [list(each) for each in one.forbidden],
            "barriers": list(one.barriers),
        },
        "identify": identify and _look(identify),
        "serial_number": _field(identify.serial) if identify and identify.serial else None,
        "preconditions": [
            {"words": each.words, "contact": each.contact, "register": each.look and _look(each.look)}
            for each in one.preconditions
        ],
        "registers": [_register(each) for each in one.registers],
        "models": [
            {
                "ids": list(model.ids),
                "role": model.role,
                "length": model.length,
                "registers": [_register(each) for each in model.registers],
            }
            for model in one.models
        ],
        "plans": [
            {
                "layout": each.label,
                "line": each.line,
                "time_s": round(each.time_s, 4),
                "requests": [
                    {"function": request.function, "address": request.address, "count": request.count}
                    for request in each.requests
                ],
            }
            for each in plans(one)
        ],
    }


def _field(field: Field | Identify) -> dict[str, object]:
    return {"function": field.function, "address": field.address, "count": field.count, "type": field.type}


def _look(look: Identify) -> dict[str, object]:
    return {**_field(look), "expected": list(look.expected)}


def _register(register: Register) -> dict[str, object]:
    return {
        "point": register.point,
        "quantity": register.quantity,
        "phase": register.phase,
        "obis": obis.unpack(register.key),
        "unit": obis.unit(register.key),
        "function": register.function,
        "address": register.address,
        "count": register.count,
        "type": register.type,
        "word_order": register.word_order,
        "scale": Value(*register.scale).text(),
        "scale_address": register.scale_address,
        "plus": [
            {"address": term.address, "count": term.count, "type": term.type, "scale": Value(*term.scale).text()}
            for term in register.plus
        ],
        "encoding": register.encoding,
        "not_available": [hex(pattern) for pattern in register.not_available],
        **{mark: getattr(register, mark) for mark in MARKS},
    }
