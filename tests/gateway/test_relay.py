"""What the relay makes of the answer of an upstream."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway import relay
from providers.base import Target
from providers.languages.registry import LANGUAGES
from providers.sap_ai_core import SAPAICore
from providers.wire import client, control
from providers.wire.errors import ProviderError
from tests.fakes.sap_ai_core import FakeSAP

CLAUDE = "anthropic--claude-4-sonnet"


def test_a_stream_in_amazons_binary_format_fails_in_a_sentence_that_helps() -> None:
    provider, language = SAPAICore(), LANGUAGES["bedrock_messages"]
    with FakeSAP() as sap:
        sap.binary_stream = True
        target = Target("Claude's home", "sap_ai_core", {}, {"service_key": sap.service_key()})
        target = replace(target, token=control.log_in(provider, target, "").value)
        model = next(model for model in control.list_models(provider, target) if model.name == CLAUDE)
        messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        body = {"max_tokens": 9, "stream": True, "messages": messages}
        response = client.send(provider.request(target, f"{model.url}/invoke", body), target, stream=True)
        lane = cast(Any, SimpleNamespace(deployment=SimpleNamespace(target=target), straight=False))
        with pytest.raises(ProviderError, match=r"'Claude's home' streams in Amazon's binary format.*\.$") as error:
            relay.open_stream(response, lane, language, cast(Any, None), cast(Any, None))
        response.close()
    assert error.value.retryable
