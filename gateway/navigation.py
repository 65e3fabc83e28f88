"""The admin's sidebar, in the order of an operator's questions."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse


def _item(title: str, icon: str, model: str, app: str) -> dict[str, Any]:
    def permitted(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{model}")

    return {
        "title": title,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": permitted,
    }


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {
            "title": "Usage",
            "items": [_item("Calls", "swap_horiz", "usagerecord", "usage")],
        },
        {
            "title": "Access",
            "items": [
                _item("API keys", "key", "apikey", "apikeys"),
                _item("People", "person", "user", "apikeys"),
                _item("Groups", "group", "group", "auth"),
            ],
        },
        {
            "title": "Upstreams",
            "items": [
                _item("Profiles", "dns", "profile", "profiles"),
                _item("Routes", "alt_route", "route", "profiles"),
                _item("Deployments", "hub", "deployment", "profiles"),
                _item("Tokens", "vpn_key", "token", "profiles"),
                _item("Workers", "memory", "workerstate", "profiles"),
            ],
        },
        {
            "title": "Safety",
            "items": [_item("Failed logins", "lock", "accessattempt", "axes")],
        },
    ]
