"""A worker in a process of its own, to be killed: runworker.py URL PORT"""

from __future__ import annotations

import sys

from twisted.internet import reactor

from relay.relayworld import World

world = World(sys.argv[1], isNew=False)
world.port = int(sys.argv[2])
world.worker("killed", lease=2.0, held=20).start()
reactor.run()  # type: ignore[attr-defined]
