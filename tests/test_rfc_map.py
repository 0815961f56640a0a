"""The RFC map of the documentation: what it names exists, and nothing of the contract is left out."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "docs" / "rfc-map.rst").read_text("utf-8")
ROWS = [
    tuple(row)
    for line in MAP.splitlines()
    if line.startswith('   "')
    for row in csv.reader([line.strip()], skipinitialspace=True)
]


def namesOfTests() -> Iterator[str]:
    for file in ROOT.glob("tests/**/test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name


@pytest.fixture(scope="module")
def existing() -> set[str]:
    return {*namesOfTests(), *(file.stem for file in (ROOT / "tests" / "dialogues").glob("*.txt"))}


def test_the_map_is_read_whole() -> None:
    assert len(ROWS) > 50
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_section_has_its_file_and_tests(row: tuple[str, ...], existing: set[str]) -> None:
    _, _, file, tests = row
    assert (ROOT / "mailsrv" / file).is_file()
    assert tests.split()
    assert set(tests.split()) <= existing


def test_every_rfc_an_extension_names_is_on_the_map() -> None:
    for file in (ROOT / "mailsrv" / "extensions").glob("*.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        for number in re.findall(r"RFC (\d+)", docstring):
            assert any(number in row[0] for row in ROWS) or number == "5321", file.name
