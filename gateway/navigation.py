"""The admin's sidebar and its first page, in the order of an operator's questions."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse


def _item(title: str, icon: str, app: str, model: str, says: str) -> dict[str, Any]:
    def permitted(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{model}")

    return {
        "title": title,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": permitted,
        "says": says,
    }


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {
            "title": "Usage",
            "items": [_item("Calls", "swap_horiz", "usage", "usagerecord", "What was asked, how it ended, its cost")],
        },
        {
            "title": "Access",
            "items": [
                _item("API keys", "key", "apikeys", "apikey", "Callers' secrets, and what each may use"),
                _item("Users", "person", "apikeys", "user", "People and services that own keys"),
                _item("Groups", "group", "auth", "group", "What staff may see and do here"),
                _item("Failed logins", "lock", "axes", "accessattempt", "Who mistyped a password, who is locked out"),
            ],
        },
        {
            "title": "Upstreams",
            "items": [
                _item("Profiles", "dns", "profiles", "profile", "Accounts at upstreams, with their secrets"),
                _item("Routes", "alt_route", "profiles", "route", "The model names that callers use"),
                _item("Deployments", "hub", "profiles", "deployment", "Where each route is served, and its prices"),
                _item("Tokens", "vpn_key", "profiles", "token", "What upstreams' logins gave us"),
                _item("Workers", "memory", "profiles", "workerstate", "The processes that serve calls"),
            ],
        },
    ]
