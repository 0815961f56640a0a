"""Extensions and policies of third parties: by name, with options, or one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from mailsrv import ExtensionPlugin, Policy, PolicyPlugin, ServerExtension, plugins
from mailsrv.interfaces import IExtensionPlugin, IPolicyPlugin
from mailsrv.kinds import Named
from mailsrv.plugins import makeExtensions, makePolicies
from mailsrv.process import StartError


class Quiet(Policy):
    def __init__(self, maxScore: str = "0") -> None:
        if not maxScore.isdigit():
            raise ValueError("maxScore is\nno number")
        self.maxScore = maxScore


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Mapping[Any, list[Any]] = {
        IExtensionPlugin: [
            ExtensionPlugin("base", ServerExtension),
            ExtensionPlugin("gone", "no.such.module"),
            ExtensionPlugin("odd", dict),
        ],
        IPolicyPlugin: [PolicyPlugin("quiet", Quiet), PolicyPlugin("base", f"{__name__}.Policy")],
    }
    monkeypatch.setattr(plugins, "getPlugins", there.__getitem__)


def test_plugins_keep_the_contract() -> None:
    verifyObject(IExtensionPlugin, ExtensionPlugin("a", ServerExtension))
    verifyObject(IPolicyPlugin, PolicyPlugin("a", Policy))


@pytest.mark.usefixtures("offered")
def test_they_are_made_in_the_order_of_their_names_with_their_options() -> None:
    [first, second] = makePolicies([Named("quiet", {"maxScore": "15"}), Named("base", {})])
    assert isinstance(first, Quiet)
    assert first.maxScore == "15"
    assert type(second) is Policy
    assert type(makeExtensions([Named("base", {})])[0]) is ServerExtension


def test_where_none_is_named_none_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(plugins, "getPlugins")
    assert makeExtensions([]) == makePolicies([]) == []


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("named", "says"),
    [
        (Named("none", {}), "--extension none: nobody offers it; there are: base, gone, odd"),
        (Named("base", {"x": "1"}), "--extension base: "),
        (Named("gone", {}), "--extension gone: "),
        (Named("odd", {}), "--extension odd: "),
    ],
)
def test_what_cannot_be_made_is_one_line(named: Named, says: str) -> None:
    with pytest.raises(StartError) as caught:
        makeExtensions([named])
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offered")
def test_a_value_that_will_not_do_is_told_by_the_plugin() -> None:
    with pytest.raises(StartError, match=r"^--policy quiet: maxScore is no number$"):
        makePolicies([Named("quiet", {"maxScore": "many"})])
