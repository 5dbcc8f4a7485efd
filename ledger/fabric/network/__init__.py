"""A real Fabric network for trying: plain processes on this machine, no Docker, all state in one folder.

``layout`` says what there is, ``settings`` what each node is told, ``configtx`` what the channel is; ``make`` writes
the folder, ``processes`` starts and stops, ``life`` is what the commands call.
"""
