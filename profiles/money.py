"""Prices are whole micro-USD per million tokens, costs whole nano-USD; decimals only at the edges."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

MICRO = Decimal(1_000_000)
NANO = Decimal(1_000_000_000)


def usd_from_price(micro: int | None) -> Decimal | None:
    """Micro-USD per million tokens as USD per million tokens."""
    return None if micro is None else Decimal(micro) / MICRO


def price_from_usd(usd: Decimal | None) -> int | None:
    """USD per million tokens as micro-USD per million tokens, rounded half up."""
    return None if usd is None else int((usd * MICRO).to_integral_value(ROUND_HALF_UP))


def usd_from_cost(nano: int) -> Decimal:
    return Decimal(nano) / NANO


class PriceFormField(forms.DecimalField):
    """Shows USD per million tokens, hands on micro-USD per million tokens."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=Decimal(0), max_digits=15, decimal_places=6, **options)

    def prepare_value(self, value: Any) -> Any:
        return f"{usd_from_price(value):f}" if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:  # type: ignore[override]
        return price_from_usd(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class PriceField(models.BigIntegerField):  # type: ignore[type-arg]
    """Micro-USD per million tokens; empty means that the kind of token has no price of its own."""

    def __init__(self, verbose_name: str | None = None, **options: Any) -> None:
        super().__init__(verbose_name, null=True, blank=True, **options)

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        del options["null"], options["blank"]
        return name, path, args, options

    def formfield(self, **options: Any) -> Any:
        return PriceFormField(
            required=False, label=options.get("label") or str(self.verbose_name).capitalize(), help_text=self.help_text
        )
