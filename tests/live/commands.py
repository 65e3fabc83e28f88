"""Management commands, each in a fork of one process that has loaded Django: to start Python anew for each would
take most of the tests' time. A fork shares nothing with the next one, just as a command of its own.

python -m tests.live.commands      # reads a line of JSON per command, and writes its exit status
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

import django
from django.conf import settings
from django.core.management import execute_from_command_line, get_commands, load_command_class


def serve() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    django.setup()
    for name, application in get_commands().items():
        if application.startswith(("profiles", "apikeys", "usage", "gateway")) or name in ("migrate", "shell"):
            load_command_class(application, name)
    assert settings.configured
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            run(wish["words"], wish["files"])
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run(words: list[str], files: list[str]) -> NoReturn:
    for descriptor, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    status = 0
    try:
        sys.argv = ["manage.py", *words]
        execute_from_command_line(sys.argv)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
