"""Path -> view. An API path is never redirected and always answers in JSON: SDKs drop the body or the
credential on a redirect, so a trailing slash is simply accepted."""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation

from gateway import model_lists, ollama, pages, system, views
from gateway.ollama_management import Management

INFERENCE = (
    (r"chat/completions", views.ChatCompletions),
    (r"completions", views.Completions),
    (r"embeddings", views.Embeddings),
    (r"responses", views.Responses),
    (r"responses/(?P<id>[^/]+)(?:/(?:cancel|input_items))?", views.StoredResponse),
    (r"images/generations", views.ImageGenerations),
    (r"images/edits", views.ImageEdits),
    (r"images/variations", views.ImageVariations),
    (r"audio/speech", views.Speech),
    (r"audio/transcriptions", views.Transcriptions),
    (r"audio/translations", views.Translations),
    (r"moderations", views.Moderations),
    (r"rerank", views.Rerank),
    (r"messages", views.Messages),
    (r"messages/count_tokens", views.CountTokens),
    (r"models", model_lists.Models),
    (r"models/(?P<name>.+?)", model_lists.Model),
    (r"key", views.CurrentKey),
)
OLLAMA = (
    (r"chat", ollama.Chat),
    (r"generate", ollama.Generate),
    (r"embed", ollama.Embed),
    (r"embeddings", ollama.Embeddings),
    (r"tags", ollama.Tags),
    (r"show", ollama.Show),
    (r"ps", ollama.Running),
    (r"version", ollama.Version),
    (r"(?P<work>pull|push|create|copy|delete)", Management),
    (r"(?P<work>blobs)/(?P<digest>sha256[:-][0-9a-f]{64})", Management),
)
BASE = re.escape(settings.BASE_PATH.strip("/"))

urlpatterns = [
    # /v1 is the address; /api/v1 is another name for it.
    *(re_path(rf"^(?:api/)?v1/{pattern}/?$", view.as_view()) for pattern, view in INFERENCE),
    re_path(r"^(?:api/)?v1(?:/|$)", views.NothingHere.as_view()),
    *(re_path(rf"^{BASE}/{pattern}/?$", view.as_view()) for pattern, view in OLLAMA),
    re_path(rf"^{BASE}(?:/|$)", ollama.NothingHere.as_view()),
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
