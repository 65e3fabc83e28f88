"""`manage.py background`: the one background process of a machine. gunicorn starts it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from django.core.management.base import BaseCommand

from usage import background

AGAIN_AFTER = 1.0  # seconds before a background process that died is started again


class Command(BaseCommand):
    help = "Drain usage journals into the database until the gateway ends. Started by gunicorn."

    def handle(self, **options: Any) -> None:
        while True:
            child = os.fork()
            if child == 0:
                background.run()
                os._exit(0)
            if self.outlive(child):
                return
            time.sleep(AGAIN_AFTER)

    def outlive(self, child: int) -> bool:
        """Wait for the child; True when it ended in good order, False when something killed it."""

        def forward(signum: int, frame: object) -> None:
            os.kill(child, signal.SIGTERM)

        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGINT, forward)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
