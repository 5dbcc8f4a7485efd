"""A contract on the official library, which does what the test asks: python contract.py ADDRESS."""

import sys

from fabric_chaincode_python.fabric_shim.interfaces import Chaincode
from fabric_chaincode_python.fabric_shim.response import success
from fabric_chaincode_python.fabric_shim.server import start


class Tried(Chaincode):
    async def init(self, stub):
        return success(b"")

    async def invoke(self, stub):
        function, arguments = stub.get_function_and_parameters()
        return success(await getattr(self, function)(stub, *arguments))

    async def put_missing(self, stub):
        await stub.client.handle_put_state("missing", "k", b"v", stub.channel_id, stub.tx_id)
        return b"endorsed"

    async def put(self, stub, key):
        await stub.put_state(key, b"v")
        return b""

    async def get(self, stub, key):
        return await stub.get_state(key)

    async def many(self, stub, prefix, number):
        for i in range(int(number)):
            await stub.put_state(f"{prefix}{i}", b"v")
            await stub.get_state(f"{prefix}{i}")
        return prefix.encode()

    async def fail(self, stub):
        raise KeyError("k")

    async def event(self, stub):
        stub.set_event("settled", b"1")
        return b""

    async def page(self, stub):
        rows = await stub.get_state_by_range_with_pagination("", "", 2)
        return repr(getattr(rows, "bookmark", None)).encode()

    async def offers(self, stub):
        """Methods that do something: an interface above has more, which give None without a word."""
        return " ".join(type(stub).__dict__).encode()

    async def transient(self, stub):
        return repr(stub.get_transient()).encode()

    async def call(self, stub):
        return (await stub.invoke_chaincode("other", [b"F"])).payload


if __name__ == "__main__":
    start(Tried, "tried:1", sys.argv[1])
