"""The ledger on Hyperledger Fabric: everything that knows Fabric's protocols, and the only folder that imports gRPC.

Its libraries are the extra `fabric`: neither a gateway nor `aigeco-peer` on the embedded ledger needs them.
"""
