"""gunicorn's configuration. Imports no Django: nothing may touch the database before the fork."""

from gevent import monkey

monkey.patch_all()

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from gateway import environment

env = environment.read()

bind = f"{env.str('HOST', default='127.0.0.1') or '127.0.0.1'}:{env.whole('PORT', 8000, 1, 65535)}"
workers = env.whole("WEB_CONCURRENCY", os.cpu_count() or 1, 1, 256)
worker_class = "gevent"
worker_connections = 4000  # open connections per worker
wsgi_app = "gateway.wsgi:application"
chdir = str(environment.BASE_DIR)
preload_app = False
control_socket_disable = True
keepalive = 10  # seconds; idle connections hold up a stop for as long
graceful_timeout = env.whole("DRAIN_SECONDS", 60, 10, 3600)
timeout = 60  # seconds without a sign of life before a worker is killed
max_requests = 0  # with one worker a planned end would be an outage
limit_request_field_size = 16380
forwarded_allow_ips = env.str("TRUSTED_PROXIES", default="")
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "switchboard"
pidfile = str(environment.BASE_DIR / (env.str("DATA_DIR", default="data") or "data") / "gunicorn.pid")

DRAIN_MARGIN = 5  # seconds by which workers end before the master kills them
LAST_ROWS = 10  # seconds the background process has for them at the end
SAY_GOODBYE = 3  # seconds before that at which open streams are told


def when_ready(server: Any) -> None:
    start_background(server)
    print(f"Switchboard serves on http://{bind} (Ctrl-C ends it).", file=sys.stderr, flush=True)


def on_reload(server: Any) -> None:
    os.close(server.lifeline)
    start_background(server)


def on_exit(server: Any) -> None:
    """Wait for the last rows. gunicorn has taken SIGCHLD, so gevent's own waiting would never end."""
    os.close(server.lifeline)
    waitpid = monkey.get_original("os", "waitpid")
    with suppress(ChildProcessError):
        for _ in range(LAST_ROWS * 20):
            if waitpid(server.background.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.05)


# Started again when something killed it, not when it ended by itself or refused its settings.
KEEPER = 'while "$0" manage.py background; [ $? -ge 128 ]; do sleep 1; done'


def start_background(server: Any) -> None:
    """The background process ends when its standard input does, however this process ends. Nicer than the
    workers: a batch of rows can wait, a call cannot."""
    read_end, server.lifeline = os.pipe()
    server.background = subprocess.Popen(
        ["nice", "-n", "5", "sh", "-c", KEEPER, sys.executable],
        cwd=chdir,
        stdin=read_end,
        start_new_session=True,
    )
    os.close(read_end)


def post_fork(server: Any, worker: Any) -> None:
    os.close(server.lifeline)
    # The master kills at exactly its own limit, and what is killed runs no `close`: be earlier.
    worker.cfg.set("graceful_timeout", graceful_timeout - DRAIN_MARGIN)


def post_worker_init(worker: Any) -> None:
    from gateway import serving

    serving.begin(worker, graceful_timeout - DRAIN_MARGIN - SAY_GOODBYE)


def worker_exit(server: Any, worker: Any) -> None:
    from gateway import serving

    serving.end()
