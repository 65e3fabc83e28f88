"""The admin of this floor. Its rooms register their pages when they are imported."""

from __future__ import annotations

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html_join
from unfold.decorators import display

from profiles import account_pages, board, moments, route_pages, token_pages
from profiles.models import WorkerState
from profiles.operator_pages import ReadOnly

__all__ = ["account_pages", "route_pages", "token_pages"]


@admin.register(WorkerState)
class WorkerStateAdmin(ReadOnly):
    says = "A worker is one serving process. Each says every second that it is there."
    empty_title = "No worker is serving"
    empty_says = "Start the gateway with bin/serve."
    list_display = ("shown_pid", "live", "host", "open_calls", "calls", "shown_started", "shown_seen")
    fields = readonly_fields = (*list_display, "counters")

    @display(description="Process", ordering="pid")
    def shown_pid(self, worker: WorkerState) -> str:
        return str(worker.pid)

    @display(description="State", label={"live": "success", "silent": "danger"})
    def live(self, worker: WorkerState) -> str:
        return "live" if worker.seen_at >= board.live_since(timezone.now()) else "silent"

    @display(description="Open calls")
    def open_calls(self, worker: WorkerState) -> int:
        return int(worker.state.get("open_calls", 0))

    @display(description="Calls since start")
    def calls(self, worker: WorkerState) -> int:
        return int(worker.state.get("calls", 0))

    @display(description="Started", ordering="started_at")
    def shown_started(self, worker: WorkerState) -> str:
        return moments.shown(worker.started_at)

    @display(description="Last seen", ordering="seen_at")
    def shown_seen(self, worker: WorkerState) -> str:
        return moments.shown(worker.seen_at, seconds=True)

    @display(description="Counters")
    def counters(self, worker: WorkerState) -> str:
        named = ((name.replace("_", " "), value) for name, value in sorted(worker.state.items()))
        return format_html_join("", "{}: {}<br>", named) or "none"
