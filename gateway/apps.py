from pathlib import Path

from django.apps import AppConfig
from django.conf import settings


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway import checks  # noqa: F401  registers the system checks

        Path(settings.DATA_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
