"""Most of the fleet runs Windows: whatever a device loads calls nothing that only POSIX has, unless behind a branch.

This reads the sources instead of running them: a call that a test on Linux never takes would fail on the device only.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import entrepot

SOURCE = Path(entrepot.__file__).parent
ROOMS = ("client", "core", "content", "durable", "objects", "protocol", "rules", "trust")
MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
_OS = """
chown chroot ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid getgid
getgrouplist getgroups getloadavg getpgid getpgrp getpriority getresgid getresuid getsid getuid getxattr
initgroups killpg lchmod lchown listxattr lockf major makedev memfd_create minor mkfifo mknod nice openpty
pathconf pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv
register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid setgroups
setpgid setpriority setregid setresgid setresuid setreuid setsid setuid setxattr statvfs sync sysconf tcgetpgrp
tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
O_ACCMODE O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK
O_PATH O_RSYNC O_SYNC O_TMPFILE WNOHANG WIFEXITED WEXITSTATUS WIFSIGNALED WTERMSIG
"""
_SIGNAL = "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 alarm setitimer"
_SOCKET = "AF_UNIX SO_REUSEPORT MSG_DONTWAIT MSG_NOSIGNAL send_fds recv_fds"
POSIX_ONLY = {"os": set(_OS.split()), "signal": set(_SIGNAL.split()), "socket": set(_SOCKET.split())}
METHODS = {"add_signal_handler", "remove_signal_handler", "connect_read_pipe", "connect_write_pipe"}
"""Methods of event loops that Windows' loops refuse."""


def platform_test(test: ast.expr) -> str:
    """``posix`` when a condition is true on POSIX only, ``windows`` when on Windows only, else empty."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return next((found for value in test.values if (found := platform_test(value))), "")
    if not (isinstance(test, ast.Compare) and ast.unparse(test.left) in ("sys.platform", "os.name")):
        return ""
    name = ast.literal_eval(test.comparators[0])
    windows = name in ("win32", "nt")
    match test.ops[0]:
        case ast.Eq():
            return "windows" if windows else "posix"
        case ast.NotEq():
            return "posix" if windows else ""
    return ""


def violations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each use of something that only POSIX has."""
    if isinstance(tree, ast.If) and platform_test(tree.test):
        on_posix = platform_test(tree.test) == "posix"
        for child in tree.orelse if on_posix else tree.body:
            yield from violations(child)
        return
    if isinstance(tree, ast.IfExp) and platform_test(tree.test):
        yield from violations(tree.orelse if platform_test(tree.test) == "posix" else tree.body)
        return
    yield from own_violation(tree)
    for _, value in ast.iter_fields(tree):
        if isinstance(value, list):
            yield from block_violations([each for each in value if isinstance(each, ast.AST)])
        elif isinstance(value, ast.AST):
            yield from violations(value)


def block_violations(block: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """Of statements in order; what follows ``if sys.platform == "win32": return`` is POSIX's alone."""
    for node in block:
        yield from violations(node)
        leaves = isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue)
        if leaves and isinstance(node, ast.If) and platform_test(node.test) == "windows" and not node.orelse:
            return


def own_violation(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import(names=names):
            yield from ((node.lineno, alias.name) for alias in names if alias.name.partition(".")[0] in MODULES)
        case ast.ImportFrom(module=str() as module, names=names):
            if module.partition(".")[0] in MODULES:
                yield node.lineno, module
            hit = POSIX_ONLY.get(module, set())
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in names if alias.name in hit)
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in POSIX_ONLY.get(owner, set()):
            yield node.lineno, f"{owner}.{name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in METHODS:
            yield node.lineno, name


def loaded_on_a_device() -> set[Path]:
    """The files of all modules that the agent's commands load."""
    program = (
        "import sys, entrepot.cli.app, entrepot.cli.session, entrepot.client.fetch, entrepot.client.enrol\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('entrepot') and m.__file__), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {Path(line) for line in done.stdout.splitlines()}


def test_nothing_that_a_device_loads_calls_what_windows_lacks() -> None:
    files = loaded_on_a_device() | {path for room in ROOMS for path in (SOURCE / room).rglob("*.py")}
    assert SOURCE / "web" / "http.py" in files
    found = {
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in files
        for line, name in violations(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.fork()",
        "import fcntl",
        "from fcntl import flock",
        "from os import getuid",
        "import os\nflags = os.O_RDONLY | os.O_NOFOLLOW",
        "import sys, os\nif sys.platform == 'win32':\n    os.getuid()",
        "import sys, os\nif sys.platform != 'win32':\n    pass\nelse:\n    os.getuid()",
        "import sys, os\ndef f():\n    if sys.platform == 'linux':\n        return 1\n    return os.getuid()",
        "import signal\nnumbers = (signal.SIGTERM, signal.SIGKILL)",
        "loop.add_signal_handler(15, print)",
        "import sys, os\nuid = os.getuid() if sys.platform == 'win32' else 0",
    ],
)
def test_what_windows_lacks_is_found(source: str) -> None:
    assert list(violations(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.replace('a', 'b')",
        "import sys\nif sys.platform == 'win32':\n    import msvcrt\nelse:\n    import fcntl",
        "import sys, os\nif sys.platform != 'win32':\n    os.getuid()",
        "import sys, os\ndef f():\n    if sys.platform == 'win32':\n        return 0\n    return os.getuid()",
        "import os\nflags = getattr(os, 'O_NOFOLLOW', 0)",
        "import sys, os\nuid = os.getuid() if sys.platform != 'win32' else 0",
        "import sys, os\nif ready and sys.platform == 'linux':\n    os.sync()",
    ],
)
def test_what_stands_behind_a_branch_is_fine(source: str) -> None:
    assert list(violations(ast.parse(source))) == []
