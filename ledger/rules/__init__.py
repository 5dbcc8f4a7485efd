"""What any ledger accepts: pure, so that the embedded ledger and a network's contracts judge alike.

No I/O, no clock, no randomness, no floats, no order of sets or dicts. ``measurements`` judges batches, the others are
contracts: functions over a :class:`ledger.rules.world.State`.
"""
