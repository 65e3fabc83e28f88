"""The gateway over a real inference server: `ENGINE_URL` (Chat, Responses, Messages), `ENGINE_EMBED_URL`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.conftest import StartGateway
from tests.live.server import Gateway

CHAT = os.environ.get("ENGINE_URL", "http://127.0.0.1:18080/v1")
EMBED = os.environ.get("ENGINE_EMBED_URL", "http://127.0.0.1:18081/v1")
MODEL = "house/chat:real[1]"
CLAUDE = "spoken to in Messages"


@pytest.fixture(scope="module")
def engine(start_gateway: StartGateway) -> Gateway:
    gateway = start_gateway()
    listed = gateway.manage("connect", "openai", "engine", "--set", f"url={CHAT}", "--routes", "all").stdout
    gateway.manage("connect", "openai", "embedder", "--set", f"url={EMBED}", "--routes", "embed")
    model = listed.rstrip(".").split(": ")[-1].split(", ")[0].strip().rstrip(".")
    gateway.route(MODEL, f"engine:{model}")
    settings = ["--set", f"url={CHAT.removesuffix('/v1')}", "--secret", "api_key=none-at-all"]
    gateway.manage("connect", "anthropic", "messenger", *settings, "--routes", f"{model}={CLAUDE}")
    gateway.noticed()
    return gateway


@pytest.fixture
def client(engine: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{engine.url}/v1", api_key=engine.key, max_retries=0) as client:
        yield client
