"""Path -> view. An API path is never redirected and always answers in JSON: SDKs drop the body or the
credential on a redirect, so a trailing slash is simply accepted."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation

from gateway import pages, system, views

INFERENCE = (
    (r"chat/completions", views.ChatCompletions),
    (r"completions", views.Completions),
    (r"embeddings", views.Embeddings),
    (r"models", views.Models),
    (r"models/(?P<name>.+?)", views.Model),
    (r"key", views.CurrentKey),
)

urlpatterns = [
    # /v1 is the address; /api/v1 is another name for it.
    *(re_path(rf"^(?:api/)?v1/{pattern}/?$", view.as_view()) for pattern, view in INFERENCE),
    re_path(r"^(?:api/)?v1(?:/|$)", views.NothingHere.as_view()),
    re_path(r"^api(?:/|$)", views.NothingHere.as_view()),
    re_path(r"^health/?$", system.Health.as_view()),
    re_path(r"^ready/?$", system.Ready.as_view()),
    re_path(r"^info/?$", system.Info.as_view()),
    path(
        "openapi.json",
        SpectacularJSONAPIView.as_view(content_negotiation_class=DefaultContentNegotiation),
        name="openapi",
    ),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(url_name="openapi", content_negotiation_class=DefaultContentNegotiation),
        name="docs",
    ),
    path("docs/", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
    path("", pages.Front.as_view(), name="front"),
]

handler400 = "gateway.pages.bad_request"
handler403 = "gateway.pages.forbidden"
handler404 = "gateway.pages.not_found"
handler500 = "gateway.pages.failed"
