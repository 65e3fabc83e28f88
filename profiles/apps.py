from django.apps import AppConfig
from django.conf import settings

from providers.wire import guard


class ProfilesConfig(AppConfig):
    name = "profiles"
    verbose_name = "Upstreams"

    def ready(self) -> None:
        guard.policy.private_upstreams = settings.ALLOW_PRIVATE_UPSTREAMS
        guard.policy.ca_bundle = settings.CA_BUNDLE or None
