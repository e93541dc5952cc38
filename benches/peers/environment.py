"""Where things are. Importing this goes on in the virtual environment of the peers, under target/, which is made if there is none."""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "target/release/itemdex"
CORES = os.cpu_count()


def enter():
    folder, requirements = ROOT / "target/peers", HERE / "requirements.txt"
    python, installed = folder / "bin/python", folder / "installed.txt"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    if not os.path.samefile(sys.prefix, folder):
        os.execv(python, [str(python), *sys.argv])


def build_program():
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)


enter()
