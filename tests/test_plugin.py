"""The plugin: twistd finds it, and finds out nothing else by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

import mailsrv
from mailsrv.options import Options
from mailsrv.service import makeService

PLUGINS = Path(mailsrv.__file__).parents[1] / "twisted" / "plugins"


def test_it_makes_our_service_out_of_our_options() -> None:
    [maker] = [each for each in getPlugins(IServiceMaker) if each.tapname == "smtpstore"]
    assert maker.options is Options
    assert maker.makeService is makeService
    assert "committed" in maker.description


def test_the_plugin_folders_stay_open_to_other_packages() -> None:
    assert not (PLUGINS / "__init__.py").exists()
    assert not (PLUGINS.parent / "__init__.py").exists()


def test_listing_the_plugins_neither_loads_the_server_nor_a_reactor() -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "assert not any(name.startswith('mailsrv') for name in sys.modules);"
        "assert 'twisted.internet.reactor' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(PLUGINS / "smtpstore_plugin.py")], check=True, timeout=20
    )


def test_its_options_load_no_reactor() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mailsrv.service;"
        "assert 'twisted.internet.reactor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(PLUGINS.parents[1])], check=True, timeout=20)


def test_the_server_and_the_command_line_need_none_of_the_extras() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "extras = 'OpenSSL cryptography service_identity treq pymysql prometheus_client'.split();"
        "sys.modules.update(dict.fromkeys(extras));"
        "import mailsrv.service, mailsrv.cli"
    )
    subprocess.run([sys.executable, "-c", code, str(PLUGINS.parents[1])], check=True, timeout=20)
