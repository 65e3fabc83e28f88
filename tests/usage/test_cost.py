"""Cost: nano-USD, each kind of token at its own price, rounded once and half up."""

from __future__ import annotations

import pytest

from profiles.catalog import Prices
from providers.conversation import Usage
from usage.metering import cost

IN, OUT = 2_500_000, 10_000_000  # 2.50 and 10 USD per million


@pytest.mark.parametrize(
    ("usage", "prices", "nano"),
    [
        (Usage(input=1000, output=100), Prices(input=IN, output=OUT), 2_500_000 + 1_000_000),
        (Usage(input=1000, output=100), Prices(), 0),
        (Usage(input=1000, cached=400), Prices(input=IN, cached=1_250_000), 600 * 2500 + 400 * 1250),
        (Usage(input=1000, cached=400), Prices(input=IN), 1000 * 2500),
        (Usage(input=1000, cache_write=100), Prices(input=IN, cache_write=3_125_000), 900 * 2500 + 100 * 3125),
        (Usage(output=100, reasoning=60), Prices(output=OUT, reasoning=20_000_000), 40 * 10_000 + 60 * 20_000),
        (Usage(input=10, audio_input=4, output=5, audio_output=5), Prices(input=IN, output=OUT, audio=0), 6 * 2500),
        (Usage(input=1), Prices(input=499), 0),
        (Usage(input=1), Prices(input=500), 1),
        (Usage(input=3), Prices(input=500), 2),
    ],
)
def test_cost(usage: Usage, prices: Prices, nano: int) -> None:
    assert cost(usage, prices) == nano
