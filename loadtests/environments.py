"""An environment of its own for each peer, made from its lock file when it is first needed."""

import shutil
import subprocess
import sys
from pathlib import Path

from loadtests.peers.launch import ENVIRONMENTS
from loadtests.peers.peer import Peer
from loadtests.workloads import ROOT, Report


def make_environment(peer: Peer, report: Report) -> None:
    """Make or renew a peer's environment. Raises CalledProcessError."""
    if peer.requirements is None:
        return
    lock, environment = peer.requirements / "requirements.lock", ENVIRONMENTS / peer.name
    installed = environment / "installed.lock"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    report(f"installing {peer.title} to {environment.relative_to(ROOT)} (once)")
    uv = str(Path(sys.executable).with_name("uv"))
    environment.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
    python = str(environment / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", str(lock)]
    subprocess.run(install, check=True)
    shutil.copyfile(lock, installed)
