from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import itemdex


def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("itemdex")
    assert program.exists() or shutil.which("itemdex")
    command = [str(program), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_the_command_comes_with_the_package(data, tmp_path):
    np.save(tmp_path / "items.npy", data.items)
    np.save(tmp_path / "users.npy", data.users)
    options = ["--items", tmp_path / "items.npy", "--model-version", "v1", "--out", tmp_path / "out"]
    built = run("build", *options, "--json")
    assert built.returncode == 0 and json.loads(built.stdout)["rows"] == 3000
    found = run("search", tmp_path / "out", "--users", tmp_path / "users.npy", "-k", "3", "--json")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(lines) == 40 and len(lines[0]["hits"]) == 3
    index = itemdex.Index.open(tmp_path / "out")
    assert [hit["id"] for hit in lines[0]["hits"]] == index.search(data.users[0], 3).ids.tolist()


def test_exit_codes(data, tmp_path):
    assert run("verify", data.path).returncode == 0
    assert run("verify", tmp_path / "missing").returncode == 1
    wrong = run("search")
    assert wrong.returncode == 2 and "Usage" in wrong.stderr
    assert run("--version").stdout.startswith("itemdex ")
    module = subprocess.run([sys.executable, "-m", "itemdex", "info", str(data.path)], capture_output=True)
    assert module.returncode == 0 and b"3000 x 16" in module.stdout
