"""Which requests read a meter: of all sets that its limits allow, the one with the fewest bytes on the line. Pure.

Never asks more registers than the meter answers, never splits a value, and keeps a value in one request with its scale
register and the other parts it is made from wherever the limit allows.

Rules
- A hole between two values is read through when that costs less than another request: up to ``(overhead + 1) / 2``
  registers, overhead being what a request and its answer cost in bytes on that transport. Where a limit cuts anyway, it
  cuts at the longest holes.
- Never past the map's own limits: registers of a request, longest hole, even addresses, forbidden ranges, barriers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivers.map import MeterMap, Register

# Request (8) and the frame around the answer's words (5).
RTU_OVERHEAD_BYTES = 13
# TCP and IP headers (40) for the request, its 12 bytes and the 9 around the answer's words.
TCP_OVERHEAD_BYTES = 61
# Request: unit, function, address, count, CRC. Answer: unit, function, byte count, CRC.
_RTU_REQUEST_BYTES = 8
_RTU_ANSWER_BYTES = 5
# Modbus over serial line 1.02, 2.5.1.1: above 19200 baud the silence between frames is fixed.
_FIXED_SILENCE_BAUD = 19200
_FIXED_SILENCE_S = 0.00175
# More bytes than any set of requests.
_NEVER = 1 << 40


@dataclass(frozen=True, slots=True)
class Request:
    """One read.

    Attributes:
        function: 3 (holding) or 4 (input registers).
        address: first 0-based address.
        count: registers.
    """

    function: int
    address: int
    count: int

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.count


def plan(meter_map: MeterMap, overhead_bytes: int) -> tuple[Request, ...]:
    """Requests that read all of a map's registers, in order of function and address."""
    longest_hole = (overhead_bytes + 1) // 2
    if meter_map.max_gap is not None:
        longest_hole = min(longest_hole, meter_map.max_gap)
    atoms = _atoms(meter_map, meter_map.registers)
    # The best set for the first atoms, by how many they are: bytes, and the requests. One byte more for a request than
    # it costs makes the rule's hole of (overhead + 1) / 2 registers a tie, and with a tie fewer requests win.
    best: list[tuple[int, tuple[Request, ...]]] = [(0, ())]
    best += [(_NEVER, ())] * len(atoms)
    for begin, atom in enumerate(atoms):
        cost, before = best[begin]
        request: Request | None = _aligned(atom, meter_map)
        end = begin + 1
        while request is not None:
            found = (cost + overhead_bytes + 1 + 2 * request.count, (*before, request))
            if (found[0], len(found[1])) <= (best[end][0], len(best[end][1])):
                best[end] = found
            request = _merge(request, atoms[end], meter_map, longest_hole) if end < len(atoms) else None
            end += 1
    return best[-1][1]


def split(request: Request, meter_map: MeterMap) -> tuple[Request, ...]:
    """The two requests to try after the meter refused one (exception 2), cut between values, as equal as it goes.

    Returns:
        Two requests, without the hole between them; ``()`` when there is no place to cut.
    """
    atoms = [atom for atom in _atoms(meter_map, meter_map.registers) if _covers(request, atom)]
    cuts: list[tuple[Request, Request]] = []
    for index in range(1, len(atoms)):
        left, right = _hull(atoms[:index]), _hull(atoms[index:])
        halves = _aligned(left, meter_map), _aligned(right, meter_map)
        if left.end <= right.address and all(half.count < request.count for half in halves):
            cuts.append(halves)
    return min(cuts, key=lambda halves: abs(halves[0].count - halves[1].count), default=())


def apart(requests: Sequence[Request]) -> tuple[Request, ...]:
    """The same requests in such an order that, where it can be, no two in a row have answers of one length.

    A gateway that asked a unit twice gives the second answer to whoever asks next: so its length says that it is wrong.
    """
    if not any(_alike(one, other) for one, other in pairwise(requests)):
        return tuple(requests)
    left, made = list(requests), list[Request]()
    while left:
        often = Counter((request.function, request.count) for request in left)
        others = [request for request in left if not made or not _alike(made[-1], request)]
        made.append(max(others or left, key=lambda request: often[request.function, request.count]))
        left.remove(made[-1])
    return tuple(made)


def _alike(one: Request, other: Request) -> bool:
    return (one.function, one.count) == (other.function, other.count)


def request_time_s(request: Request, baud: int, bits_per_char: int) -> float:
    """Seconds one request and its answer take on a serial line, without the meter's own time to think."""
    chars = _RTU_REQUEST_BYTES + _RTU_ANSWER_BYTES + 2 * request.count
    silence_s = _FIXED_SILENCE_S if baud > _FIXED_SILENCE_BAUD else 3.5 * bits_per_char / baud
    return chars * bits_per_char / baud + 2 * silence_s


def _atoms(meter_map: MeterMap, registers: Iterable[Register]) -> list[Request]:
    """What must not be cut: each value with all its parts, or part by part where one request cannot hold them."""
    atoms: set[Request] = set()
    for register in registers:
        parts = [Request(register.function, address, count) for address, count in register.spans()]
        whole = _hull(parts)
        joined = _aligned(whole, meter_map).count <= meter_map.max_registers and _passable(whole, parts, meter_map)
        atoms.update([whole] if joined else parts)
    return sorted(atoms, key=lambda atom: (atom.function, atom.address, atom.count))


def _hull(parts: Sequence[Request]) -> Request:
    first = min(part.address for part in parts)
    return Request(parts[0].function, first, max(part.end for part in parts) - first)


def _covers(request: Request, atom: Request) -> bool:
    return request.function == atom.function and request.address <= atom.address and atom.end <= request.end


def _passable(whole: Request, parts: Sequence[Request], meter_map: MeterMap) -> bool:
    """Whether one request may run over all of it: no barrier, nothing forbidden, no hole the meter refuses."""
    if any(whole.address < barrier < whole.end for barrier in meter_map.barriers):
        return False
    if any(first < whole.end and whole.address <= last for first, last in meter_map.forbidden):
        return False
    if meter_map.max_gap is None:
        return True
    ordered = sorted(parts, key=lambda part: part.address)
    return all(b.address - a.end <= meter_map.max_gap for a, b in pairwise(ordered))


def _aligned(request: Request, meter_map: MeterMap) -> Request:
    if not meter_map.even_only:
        return request
    address = request.address - request.address % 2
    end = request.end + request.end % 2
    return Request(request.function, address, end - address)


def _merge(request: Request, atom: Request, meter_map: MeterMap, longest_hole: int) -> Request | None:
    """Both in one request, None where that is not allowed or cannot pay."""
    if request.function != atom.function or atom.address - request.end > longest_hole:
        return None
    both = _aligned(_hull((request, atom)), meter_map)
    if both.count > meter_map.max_registers or not _passable(both, (request, atom), meter_map):
        return None
    return both
