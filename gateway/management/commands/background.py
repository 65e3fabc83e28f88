"""`manage.py background`: the one background process of a machine. gunicorn starts it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from usage import background


class Command(BaseCommand):
    help = "Drain usage journals into the database until the gateway ends. Started by gunicorn."

    def handle(self, **options: Any) -> None:
        background.run()
