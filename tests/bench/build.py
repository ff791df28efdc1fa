"""Builds what is measured, and what measures."""
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAM = ROOT / "build/release/perigee"


def tools():
    """rpcload and floor, when their sources are newer."""
    for name in ("rpcload", "floor"):
        source, program = HERE / f"{name}.c", HERE / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            print(f"building {name}", file=sys.stderr)
            subprocess.run(["cc", "-O3", "-g", "-o", program, source], check=True)


def server():
    """The release build; returns its path."""
    print("building build/release/perigee", file=sys.stderr)
    for step in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release", "-j", str(os.cpu_count())]):
        done = subprocess.run(step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout + "the build failed; server/setup installs what it needs")
    return PROGRAM


def programs(given):
    """Programs by name: those given as NAME=PROGRAM, or the release build."""
    found = {}
    for one in given:
        name, _, path = one.partition("=")
        path = pathlib.Path(path).resolve()
        if not path.exists():
            sys.exit(f"--perigee {one}: there is no {path}")
        found[name] = path
    return found or {"perigee": server()}


def need(program, package):
    if not shutil.which(program):
        sys.exit(f"{program} is not installed (Debian: apt install {package})")
