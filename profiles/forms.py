"""Forms that draw themselves from what a provider declares. A secret can be written here and never read."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from profiles.models import WORKS, Profile, Route
from profiles.secrets import SealBroken
from providers.base import Provider, Setting
from providers.registry import kinds

KEPT = "Set. Leave empty to keep it, or tick “forget”."
NOT_SET = "Not set."


class SecretLinesWidget(UnfoldAdminTextareaWidget):
    """A text area that never shows what it holds, not even after an error elsewhere in the form."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, None, attrs)  # type: ignore[no-any-return]


def _secret_field(label: str, help_text: str, many_lines: bool, is_set: bool, required: bool) -> forms.CharField:
    state = {"placeholder": KEPT if is_set else NOT_SET, "autocomplete": "new-password", "spellcheck": "false"}
    widget = SecretLinesWidget(attrs={**state, "rows": 4}) if many_lines else UnfoldAdminPasswordWidget(attrs=state)
    return forms.CharField(
        label=label, help_text=help_text, required=required and not is_set, strip=True, widget=widget
    )


class ProfileForm(forms.ModelForm):
    """The part every kind has; `form_for` adds the fields of one kind."""

    provider: Provider

    class Meta:
        model = Profile
        fields = (
            "name",
            "kind",
            "enabled",
            "third_party",
            "connect_timeout",
            "first_event_timeout",
            "idle_timeout",
            "total_timeout",
            "ca",
            "notes",
        )
        widgets = {"kind": forms.HiddenInput()}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._values = self._open()
        for setting in self.provider.settings:
            name = field_name(setting)
            if setting.secret:
                is_set = bool(self._values["secrets"].get(setting.name))
                self.fields[name] = _secret_field(
                    setting.label, setting.help, setting.kind == "lines", is_set, setting.required
                )
            else:
                self.fields[name] = _plain_field(setting)
                self.initial.setdefault(name, self.instance.settings.get(setting.name, setting.default))
        self.fields["proxy_url"] = _secret_field(
            "Proxy", "As http://user:password@proxy:3128. It may hold a password, so it is kept like one.",
            False, bool(self._values["proxy_url"]), False,
        )  # fmt: skip
        self.fields["extra_headers"] = _secret_field(
            "Extra headers", "One a line, as Name: value. Sent with every call; kept like secrets.",
            True, bool(self._values["headers"]), False,
        )  # fmt: skip
        for name in self.secret_names():
            self.fields[f"forget_{name}"] = forms.BooleanField(
                label=f"Forget {self.fields[name].label}", required=False, widget=UnfoldBooleanSwitchWidget()
            )

    def _open(self) -> dict[str, Any]:
        try:
            return self.instance.sealed_values()
        except SealBroken:
            # Sealed with a key that is gone: the only way on is to enter the secrets anew.
            return {"secrets": {}, "proxy_url": "", "headers": {}}

    def secret_names(self) -> list[str]:
        """The secret fields that hold something now."""
        held = [
            field_name(setting)
            for setting in self.provider.settings
            if setting.secret and self._values["secrets"].get(setting.name)
        ]
        return [
            *held,
            *(["proxy_url"] if self._values["proxy_url"] else []),
            *(["extra_headers"] if self._values["headers"] else []),
        ]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for setting in self.provider.settings:
            name = field_name(setting)
            if name in cleaned and (cleaned[name] or not setting.secret):
                try:
                    cleaned[name] = setting.clean(str(cleaned[name] or ""))
                except ValueError as error:
                    self.add_error(name, str(error))
        if cleaned.get("proxy_url"):
            self._clean_proxy(cleaned["proxy_url"])
        if cleaned.get("extra_headers"):
            self._clean_headers(cleaned)
        return cleaned

    def _clean_proxy(self, value: str) -> None:
        if not value.startswith(("http://", "https://")) or any(letter.isspace() for letter in value):
            self.add_error("proxy_url", "The proxy must be an address that begins with http:// or https://.")

    def _clean_headers(self, cleaned: dict[str, Any]) -> None:
        headers: dict[str, str] = {}
        for line in cleaned["extra_headers"].splitlines():
            name, colon, value = line.partition(":")
            if not line.strip():
                continue
            if not colon or not name.strip() or not name.strip().replace("-", "").isalnum():
                self.add_error("extra_headers", "Write each header as Name: value.")
                return
            headers[name.strip()] = value.strip()
        cleaned["extra_headers"] = headers

    def save(self, commit: bool = True) -> Profile:
        values, cleaned = self._values, self.cleaned_data
        settings = dict(self.instance.settings)
        for setting in self.provider.settings:
            name = field_name(setting)
            if not setting.secret:
                settings[setting.name] = cleaned[name]
            elif cleaned.get(f"forget_{name}"):
                values["secrets"].pop(setting.name, None)
            elif cleaned[name]:
                values["secrets"][setting.name] = cleaned[name]
        for name, key, empty in (("proxy_url", "proxy_url", ""), ("extra_headers", "headers", {})):
            if cleaned.get(f"forget_{name}"):
                values[key] = empty
            elif cleaned[name]:
                values[key] = cleaned[name]
        self.instance.settings = settings
        self.instance.seal(values)
        return super().save(commit)  # type: ignore[no-any-return]


def field_name(setting: Setting) -> str:
    return f"{'secret' if setting.secret else 'setting'}_{setting.name}"


def _plain_field(setting: Setting) -> forms.Field:
    options: dict[str, Any] = {"label": setting.label, "help_text": setting.help, "required": False}
    if setting.kind == "choice":
        choices = [(choice, choice) for choice in setting.choices]
        return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget(), **options)
    if setting.kind == "integer":
        return forms.IntegerField(min_value=0, widget=UnfoldAdminIntegerFieldWidget(), **options)
    if setting.kind == "lines":
        return forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), **options)
    return forms.CharField(
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": setting.default} if setting.default else {}), **options
    )


def form_for(kind: str) -> type[ProfileForm]:
    """Raises KeyError for a kind this version does not know."""
    provider = kinds()[kind]
    return type(f"{type(provider).__name__}ProfileForm", (ProfileForm,), {"provider": provider})


class RouteForm(forms.ModelForm):
    works = forms.MultipleChoiceField(
        label="Kinds of work",
        choices=WORKS,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        initial=[w for w, _ in WORKS],
    )

    class Meta:
        model = Route
        fields = ("name", "works", "context_window", "max_output_tokens", "model_name", "public", "enabled")
