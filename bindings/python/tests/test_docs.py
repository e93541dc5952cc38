"""The programs of the guide, run as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("page", ["docs/python.md", "README.md", "bindings/python/README.md"])
def test_the_programs_of(page, tmp_path, monkeypatch, capsys):
    text = (ROOT / page).read_text()
    programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert programs, "there is a program to try"
    if "pyarrow" in text:
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for program in programs:
        exec(compile(program, page, "exec"), names)
    assert capsys.readouterr().out
