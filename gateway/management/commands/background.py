"""`manage.py background`: the one background process of a machine. gunicorn starts it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.core.management.base import BaseCommand

from usage import background

START_AGAIN = 128  # as of a process that was killed

log = logging.getLogger("switchboard.background")


class Command(BaseCommand):
    help = "Drain usage journals into the database until the gateway ends. Started by gunicorn."

    def handle(self, **options: Any) -> None:
        try:
            background.run()
        except Exception:
            log.exception("background_died")
            sys.exit(START_AGAIN)
