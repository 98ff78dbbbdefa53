"""What all comparisons share: running both sides in turn, medians, and the results file.

A comparison is a module with TITLE, compare(quick) -> Result and, where its peer is a Python library, a part that is run
by the peer's own interpreter. Times are always medians of several runs in which the sides take turns, and a ratio above
1 means that Covey is that many times as fast.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "bench" / "results"
BUILD = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "covey-bench-build"
CACHE = BUILD.parent
COVEY = BUILD / "covey"

# The interpreters: see setup.sh.
NUMPY = CACHE / "covey-python" / "bin" / "python3"  # numpy, scikit-learn, matplotlib
TENSORFLOW = CACHE / "covey-bench-tf" / "bin" / "python3"
FLOWER = CACHE / "covey-bench-flower" / "bin" / "python3"
TORCH = Path("/usr/bin/python3")  # Debian's PyTorch

# One thread a process, on every side.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Failed(Exception):
    """A side did not run, or its result was wrong."""


def run(*command, env=None, timeout=900, cwd=None):
    """Runs a command to its end and returns what it printed."""
    words = [str(c) for c in command]
    try:
        p = subprocess.run(words, env={**os.environ, **ONE_THREAD, **(env or {})}, timeout=timeout, cwd=cwd, text=True,
                           stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.TimeoutExpired as e:
        raise Failed(f"{words[0]} did not end within {timeout} s: {' '.join(words)}") from e
    except OSError as e:
        raise Failed(f"{words[0]}: {e}; bench/peers/setup.sh installs it") from e
    if p.returncode != 0:
        raise Failed(f"exit code {p.returncode} of {' '.join(words)}\n{p.stdout[-2000:]}{p.stderr[-2000:]}")
    return p.stdout


def last_json(text):
    """The JSON on the last line that is some."""
    for line in reversed(text.strip().splitlines()):
        if line.startswith(("{", "[")):
            return json.loads(line)
    raise Failed(f"no JSON in: {text[-500:]}")


def covey(*args, **kw):
    """Runs covey and returns the JSON that it prints."""
    return json.loads(run(COVEY, *args, "--json", "--quiet", **kw))


def peer(interpreter, module, *args, **kw):
    """Runs a peer's part of a module of this folder, with its interpreter, and returns the JSON that it prints."""
    return last_json(run(interpreter, HERE / module, *args, **kw))


rounds = 5  # of alternate: run.py sets it


def alternate(sides, times=None):
    """Runs every side once a round, in turn, the first one first in even rounds and last in odd ones.

    sides is name -> function that returns {key: number}. Returns name -> {key: median over the rounds}. times is how many
    rounds, where not as many as asked for.
    """
    seen = {name: {} for name in sides}
    times = times or rounds
    for r in range(times):
        for name in sides if r % 2 == 0 else reversed(list(sides)):
            progress(f"round {r + 1} of {times}: {name}")
            for key, value in sides[name]().items():
                seen[name].setdefault(key, []).append(value)
    progress("")
    return {name: {k: statistics.median(v) for k, v in keys.items()} for name, keys in seen.items()}


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


class Result:
    """The tables and checks of one comparison, and what is needed to believe them."""

    def __init__(self, title, quick, note=""):
        self.title, self.quick, self.note = title, quick, note
        self.versions, self.tables, self.checks, self.plots = {}, [], [], []
        self.rounds = rounds

    def version(self, name, text):
        self.versions[name] = text.strip()

    def table(self, title, columns, rows):
        """rows are lists of text or numbers; numbers are shown in three digits."""
        self.tables.append({"title": title, "columns": columns, "rows": [[shown(c) for c in r] for r in rows]})

    def check(self, goal, what, ours, theirs, ratio, target):
        """One line of what must be shown. ours and theirs are texts with units; ratio >= target is what must hold."""
        self.checks.append({"goal": goal, "what": what, "ours": ours, "peer": theirs, "ratio": round(ratio, 3),
                            "target": target, "holds": bool(ratio >= target)})

    def save(self, name):
        RESULTS.mkdir(exist_ok=True)
        p = RESULTS / f"{name}.json"
        body = {"title": self.title, "note": self.note, "rounds": self.rounds, "date": datetime.date.today().isoformat(),
                "command": f"python3 bench/peers/run.py {name}", "machine": machine(),
                "versions": {"covey": covey_version(), **self.versions}, "checks": self.checks, "tables": self.tables,
                "plots": self.plots}
        p.write_text(json.dumps(body, indent=1) + "\n")
        return p


def shown(v):
    if isinstance(v, bool) or not isinstance(v, (int, float)):
        return str(v)
    if isinstance(v, int):
        return str(v)
    return f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"


def duration(us):
    """A time in microseconds, for people."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} us"


def size(n):
    """A number of bytes, for people."""
    for unit, one in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= one and n % one == 0:
            return f"{n // one} {unit}"
    return f"{n} bytes"


def machine():
    """Processor, cores and memory: nothing that names this very machine."""
    cpu = next((l.split(":")[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")),
               platform.machine())
    memory = next(int(l.split()[1]) for l in Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemTotal"))
    return {"processor": cpu, "cores": os.cpu_count(), "memory_gib": round(memory / (1 << 20)), "last_cache_bytes": last_cache(),
            "kernel": platform.release().split("-")[0]}


def last_cache():
    """The size of the last-level cache, 0 where the kernel does not tell."""
    best = (0, 0)
    for d in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        text = (d / "size").read_text().strip()
        n = int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
        best = max(best, (int((d / "level").read_text()), n))
    return best[1]


def build_covey():
    """Builds Covey from this tree, so that what is measured is what the results say."""
    BUILD.mkdir(parents=True, exist_ok=True)
    run("go", "build", "-o", COVEY, "./cmd/covey", cwd=ROOT, env={"CGO_ENABLED": "0"})


def covey_version():
    rev = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=10"], capture_output=True, text=True).stdout.strip()
    kernels = run(COVEY, "version").strip()
    return f"{kernels} (tree {rev})" if rev else kernels


def compiled(source, compiler="cc", *flags, name=None):
    """Compiles a C file of this folder, if it is newer than the program, and returns the program."""
    src = HERE / source
    out = BUILD / (name or src.stem)
    if not out.exists() or out.stat().st_mtime < src.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        run(compiler, "-O3", "-march=native", "-o", out, src, *flags)
    return out


def real_data(name):
    """A folder of real data, in $COVEY_DATA."""
    root = os.environ.get("COVEY_DATA")
    if not root:
        raise Failed("COVEY_DATA is not set: the folder that holds mnist and a9a, the public data sets in their original files")
    p = Path(root) / name
    if not p.exists():
        raise Failed(f"{p} is not there")
    return p
