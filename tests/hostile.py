"""Jobs for the pool's tests, most of them hostile. Each takes the shared value first."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

KEPT: list[bytearray] = []  # outlives a job


class Unspeakable(Exception):  # noqa: N818
    """An exception that can be neither pickled nor shown."""

    def __reduce__(self) -> Any:
        raise RuntimeError("not me")

    def __str__(self) -> str:
        raise RuntimeError("nor like this")


class OnlyHere:
    """A value that can be pickled, and not unpickled in the driver."""

    def __reduce__(self) -> Any:
        return explode_in, (os.getppid(),)


def explode_in(zygote: int) -> None:
    """Raise anywhere but under `zygote`."""
    if os.getppid() != zygote:
        raise RuntimeError("not in the driver")


def call(shared: Any, name: str, *args: Any) -> Any:
    """Run another function of this module, so that one pool serves all tests."""
    return globals()[name](shared, *args)


def note(shared: Any, path: str) -> int:
    """Leave a line in a file, and say who did."""
    with Path(path).open("a") as file:
        file.write("here\n")
    return os.getpid()


def close_pipes(shared: Any) -> None:
    """Close whatever is a pipe: what is printed goes nowhere from here on."""
    for fd in range(64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.close(fd)
        except OSError:
            pass


def double(shared: Any, number: int) -> int:
    return 2 * number


def total(shared: Any) -> tuple[float, bool]:
    """What the shared array sums to, and whether it can be written."""
    return float(shared["x"].sum()), bool(shared["x"].flags.writeable)


def imported(shared: Any, module: str) -> bool:
    """Whether a module was there before the job."""
    return module in sys.modules


def who(shared: Any) -> tuple[int, int, int]:
    """Own pid, session and parent."""
    return os.getpid(), os.getsid(0), os.getppid()


def raising(shared: Any) -> None:
    raise ValueError("on purpose\nand a second line")


def unspeakable(shared: Any) -> None:
    raise Unspeakable


def leaving(shared: Any) -> None:
    sys.exit(3)


def vanishing(shared: Any, code: int) -> None:
    os._exit(code)


def killed(shared: Any, number: int) -> None:
    os.kill(os.getpid(), number)


def segfault(shared: Any) -> None:
    """A real one, in C code."""
    ctypes.string_at(0)


def out_of_memory(shared: Any) -> None:
    bytearray(1 << 60)


def devour(shared: Any, n_bytes: int) -> None:
    """Take memory, really used, until something happens."""
    while sum(map(len, KEPT)) < n_bytes:
        KEPT.append(bytearray(os.urandom(1 << 20) * 8))
    time.sleep(60)


def keep(shared: Any, n_bytes: int) -> int:
    """Use memory and give it back."""
    return len(bytearray(b"x") * n_bytes)


def hang(shared: Any, seconds: float = 60.0) -> None:
    time.sleep(seconds)


def hang_in_c(shared: Any, path: str = "") -> None:
    """Sleep in C code that never lets go of the interpreter's lock."""
    if path:
        Path(path).write_text(f"{os.getpid()}")
    ctypes.PyDLL(None).sleep(60)


def unpicklable(shared: Any) -> Any:
    return threading.Lock()


def only_here(shared: Any) -> OnlyHere:
    return OnlyHere()


def a_lambda(shared: Any) -> Any:
    return lambda x: x + 1


def blob(shared: Any, n_bytes: int) -> bytes:
    """A large result."""
    return b"x" * n_bytes


def flood(shared: Any, n_bytes: int) -> str:
    """Print far more than any pipe holds."""
    print("first words")
    line = "x" * 1023
    for _ in range(n_bytes // 1024):
        print(line)
    print("last words", file=sys.stderr)
    return "done"


def say(shared: Any, text: str) -> None:
    """Print from Python, from a child process and through C's buffer."""
    print(text, "python")
    subprocess.run(["/bin/echo", text, "child"], check=True)
    ctypes.CDLL(None).printf(f"{text} C".encode())


def spoil_streams(shared: Any) -> None:
    """Close all there is to print to."""
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)


def close_all(shared: Any) -> None:
    """Close every file, the one that answers go through included."""
    os.closerange(3, 1024)


def leave_thread(shared: Any) -> int:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return os.getpid()


def leave_child(shared: Any) -> tuple[int, int]:
    """Leave a process running; its pid and ours."""
    child = subprocess.Popen(["sleep", "60"])
    child.returncode = 0  # no ResourceWarning
    return child.pid, os.getpid()


def leave_child_and_die(shared: Any, path: str) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(f"{child.pid}")
    os._exit(1)


def fork_and_return(shared: Any) -> int:
    """Come back twice."""
    os.fork()
    return 1


def kill_zygote(shared: Any) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def kill_zygote_once(shared: Any, path: str) -> str:
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return "second time"
    kill_zygote(shared)
    return "first time"


def with_processes(shared: Any) -> list[int]:
    """Use processes inside of a job."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def modules(shared: Any) -> list[str]:
    return sorted(sys.modules)


def environment(shared: Any) -> dict[str, str]:
    return dict(os.environ)


def signature(shared: Any) -> tuple[list[str], str]:
    """Where imports and relative paths lead."""
    return sys.path, str(Path.cwd())


def lightgbm_fit(shared: Any, threads: int) -> float:
    """Fit a small booster with OpenMP threads, and do some linear algebra."""
    import lightgbm
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 10))
    y = X[:, 0] + rng.normal(size=2000)
    np.linalg.svd(X @ X.T[:, :200], full_matrices=False)
    params = {"num_threads": threads, "verbose": -1, "deterministic": True, "seed": 1}
    params["force_row_wise"] = True
    booster = lightgbm.train(params, lightgbm.Dataset(X, y), num_boost_round=20)
    return float(booster.predict(X).sum())


def random_number(shared: Any) -> float:
    import numpy as np

    time.sleep(0.2)  # so that both workers are used
    return float(np.random.random())
