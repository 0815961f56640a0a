"""The real twistd; its coverage, where it is measured, is saved before it ends by a signal.

twistd ends by sending itself the signal it was stopped with, so nothing that runs at exit runs.
"""

from __future__ import annotations

import sys

from twisted.application import app
from twisted.scripts import twistd

if "coverage" in sys.modules:
    from coverage import Coverage

    _exitWithSignal = app._exitWithSignal

    def _saveAndExit(number: int) -> None:
        current = Coverage.current()
        if current is not None:
            current.stop()
            current.save()
        _exitWithSignal(number)

    app._exitWithSignal = _saveAndExit

if __name__ == "__main__":
    sys.argv[0] = "twistd"
    twistd.run()
