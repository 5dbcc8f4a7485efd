"""Evidence: statements in a chain, batches with a Merkle root, receipts, and the verifier an auditor runs.

Imports nothing of ours but the Reading and the OBIS names of ``drivers``; reads no clock and opens no file but keys,
trust anchors and exported evidence.
"""
