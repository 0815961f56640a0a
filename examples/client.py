"""Send a message over ESMTP: TLS where the server offers it, the file streamed from the disk.

    python examples/client.py localhost 2525 me@example.org you@example.com message.eml

Each recipient has a reply of its own, also where no server was reached.
"""

import sys

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import react

from mailsrv import (
    Envelope,
    EsmtpTransport,
    StartTlsClient,
    TlsPolicy,
    UnexpectedReply,
    clientExtensions,
)


async def main(reactor, host: str, port: str, sender: str, *rest: str) -> None:
    *recipients, path = rest
    transport = EsmtpTransport(
        HostnameEndpoint(reactor, host, int(port)),
        reactor,
        helo="localhost",
        extensions=[StartTlsClient(TlsPolicy.OPPORTUNISTIC), *clientExtensions()],
        hostname=host,
    )
    try:
        await transport.connect()
    except UnexpectedReply as refused:
        sys.exit(f"{host}: {refused.reply.code} {refused.reply.text}")
    with open(path, "rb") as file:
        result = await transport.send(Envelope(sender, tuple(recipients), file))
    await transport.quit()
    for each in result.recipients:
        print(f"{each.address}: {each.reply.code} {each.reply.text}")
        if each.newAddress is not None:
            print(f"  its address is now {each.newAddress}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
