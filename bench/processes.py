"""What the kernel says about a tree of processes: CPU time and proportional memory."""

import os
import re
import resource
import subprocess
import time
from pathlib import Path

PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)
TICK = 1 / os.sysconf("SC_CLK_TCK")


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may itself contain spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, those of its children that have already ended included."""
    return sum(sum(map(int, fields[11:15])) for pid in tree(root) if (fields := stat_fields(pid))) * TICK


def cpu_seconds_at_rest(root: int, patience: float = 10.0) -> float:
    """Read when the tree has come to rest, so that work put off until after the answers is counted too."""
    before, deadline = cpu_seconds(root), time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu_seconds(root)
        if now - before <= 2 * TICK:
            return now
        before = now
    return before


class Neighbours:
    """How much of the machine went to processes that are not ours, between the beginning and `share()`."""

    def __init__(self) -> None:
        self.began, self.busy, self.own = time.monotonic(), machine_busy_seconds(), own_seconds()

    def share(self) -> float:
        """Right only once our own processes have ended: until then what they used is not ours yet."""
        theirs = machine_busy_seconds() - self.busy - (own_seconds() - self.own)
        return max(0.0, theirs / (time.monotonic() - self.began) / (os.cpu_count() or 1))


def machine_busy_seconds() -> float:
    whole_machine = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    user, nice, system, _idle, _iowait, *rest = map(int, whole_machine)
    return (user + nice + system + sum(rest)) * TICK


def own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def memory_bytes(root: int) -> int:
    """PSS: a page that several processes share counts once."""
    total = 0
    for pid in tree(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if share := PSS.search(rollup):
            total += int(share[1]) * 1024
    return total


def pinned(command: list[str], core: int | None) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


def stop(process: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    members = tree(process.pid)
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # A helper that outlived its parent would be measured along with the next server.
    for pid in members[1:]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
