"""Forms that draw themselves from what a provider declares. A secret can be written here and never read."""

from __future__ import annotations

import copy
import re
import ssl
from typing import Any
from urllib.parse import urlsplit

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from profiles import key_pairs
from profiles.models import Profile
from profiles.secrets import SealBroken
from providers import snowflake_keys
from providers.base import Provider, Setting
from providers.registry import kinds

KEPT = "Set. Leave empty to keep it"
NOT_SET = "Not set"
NEW_KEY_PAIR = "new_key_pair"
# What frames a request is ours to say; a second one would break it.
OUR_HEADERS = {"connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"}
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


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
            "sync_minutes",
            "connect_timeout",
            "first_event_timeout",
            "idle_timeout",
            "total_timeout",
            "ca",
            "notes",
        )
        widgets = {"kind": forms.HiddenInput(), "notes": UnfoldAdminTextareaWidget(attrs={"rows": 3})}
        help_texts = {
            "enabled": "Switch off to take every route away from this account.",
            "third_party": "Prompts leave for machines that are not under contract: only routes that allow it are "
            "served from here.",
            "sync_minutes": "Minutes. New models become routes, vanished ones are switched off, nothing is deleted. "
            "Empty: only when asked.",
        }
        labels = {"sync_minutes": "Look for models every"}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._values = self._open()
        self.public_line = ""  # of a key pair made on the way
        for setting in self.provider.settings:
            name = field_name(setting)
            if setting.secret:
                is_set = bool(self._values["secrets"].get(setting.name))
                self.fields[name] = _secret_field(
                    setting.label, setting.help, setting.kind == "lines", is_set, setting.required
                )
            else:
                self.fields[name] = _plain_field(setting)
                self.initial.setdefault(name, self.instance.settings.get(setting.name) or setting.default)
        self.fields["proxy_url"] = _secret_field(
            "Proxy", "As http://user:password@proxy:3128. It may hold a password, so it is kept like one.",
            False, bool(self._values["proxy_url"]), False,
        )  # fmt: skip
        self.fields["extra_headers"] = _secret_field(
            "Extra headers", "One on each line, as Name: value. Sent with every call, and kept like secrets.",
            True, bool(self._values["headers"]), False,
        )  # fmt: skip
        for name in self.secret_names():
            self.fields[f"forget_{name}"] = forms.BooleanField(
                label=f"Forget: {self.fields[name].label}",
                help_text="Removes what is set when you save.",
                required=False,
                widget=UnfoldBooleanSwitchWidget(),
            )
        if self.makes_key_pair():
            self.fields[NEW_KEY_PAIR] = forms.BooleanField(
                label="Generate a key pair",
                help_text="Instead of a private key of your own: the next page shows the public half, once.",
                required=False,
                widget=UnfoldBooleanSwitchWidget(),
            )

    def makes_key_pair(self) -> bool:
        return self.provider.kind in key_pairs.KINDS and not self._values["secrets"].get(snowflake_keys.FIRST)

    def _open(self) -> dict[str, Any]:
        profile: Profile = self.instance
        try:
            return profile.sealed_values()
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

    def clean_kind(self) -> str:
        """What the form was drawn for, whatever was posted."""
        return self.provider.kind

    def clean_name(self) -> str:
        return printable(self.cleaned_data["name"])

    def clean_ca(self) -> str:
        pem = str(self.cleaned_data["ca"]).strip()
        if pem:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
            except (ssl.SSLError, ValueError, TypeError) as error:
                raise forms.ValidationError(
                    "This is no certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----."
                ) from error
        return pem

    def clean_proxy_url(self) -> str:
        value = str(self.cleaned_data["proxy_url"])
        if value and not _is_proxy(value):
            raise forms.ValidationError(
                "The proxy must be an address that begins with http:// or https://, as http://proxy:3128."
            )
        return value

    def clean_extra_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in str(self.cleaned_data["extra_headers"]).split("\n"):
            if not line.strip():
                continue
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not colon or not HEADER_NAME.fullmatch(name):
                raise forms.ValidationError("Write each header on a line of its own, as Name: value.")
            if not value.isascii() or not value.isprintable():
                raise forms.ValidationError(f"The value of {name} holds characters that no header may hold.")
            if name.lower() in OUR_HEADERS:
                raise forms.ValidationError(f"{name} is set by the gateway itself.")
            headers[name] = value
        return headers

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for setting in self.provider.settings:
            name = field_name(setting)
            if name in cleaned and (cleaned[name] or not setting.secret):
                try:
                    cleaned[name] = setting.clean("" if cleaned[name] is None else str(cleaned[name]))
                except ValueError as error:
                    self.add_error(name, str(error))
        for name in self.secret_names():
            if cleaned.get(name) and cleaned.get(f"forget_{name}"):
                self.add_error(name, "Either enter a new value or forget the old one.")
        if not self.errors and cleaned.get(NEW_KEY_PAIR):
            self._make_key_pair()
        if not self.errors:
            try:
                self.provider.check(self._draft().open())
            except ValueError as error:
                self.add_error(None, str(error))
        return cleaned

    def _make_key_pair(self) -> None:
        secret = f"secret_{snowflake_keys.FIRST}"
        if self.cleaned_data[secret]:
            self.add_error(secret, "Either enter a private key or have a pair generated.")
        elif not self.cleaned_data["setting_user"]:
            self.add_error("setting_user", "A key pair belongs to a user: enter the name.")
        else:
            self.cleaned_data[secret], self.public_line = snowflake_keys.new_pair()

    def _draft(self) -> Profile:
        """The profile as it would be stored, secrets included."""
        draft: Profile = copy.copy(self.instance)
        draft.kind, draft.name = self.provider.kind, self.cleaned_data["name"]
        self._fill(draft)
        return draft

    def _fill(self, profile: Profile) -> None:
        values, cleaned = copy.deepcopy(self._values), self.cleaned_data
        settings = dict(profile.settings)
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
        profile.settings = settings
        profile.seal(values)

    def save(self, commit: bool = True) -> Profile:
        self._fill(self.instance)
        return super().save(commit)  # type: ignore[no-any-return]


def field_name(setting: Setting) -> str:
    return f"{'secret' if setting.secret else 'setting'}_{setting.name}"


def _plain_field(setting: Setting) -> forms.Field:
    options: dict[str, Any] = {"label": setting.label, "help_text": setting.help, "required": False}
    if setting.kind == "choice":
        choices = [(choice, choice or "not set") for choice in setting.choices]
        return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget(), **options)
    if setting.kind == "integer":
        return forms.IntegerField(
            min_value=0, max_value=setting.most, widget=UnfoldAdminIntegerFieldWidget(), **options
        )
    if setting.kind == "lines":
        return forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), **options)
    return forms.CharField(
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": setting.default} if setting.default else {}), **options
    )


def form_for(kind: str) -> type[ProfileForm]:
    """Raises KeyError for a kind this version does not know."""
    provider = kinds()[kind]
    return type(f"{type(provider).__name__}ProfileForm", (ProfileForm,), {"provider": provider})


def printable(name: str) -> str:
    """Raises ValidationError for what could break a line of a log or a header."""
    if not name.isprintable():
        raise forms.ValidationError("This holds a line break or a control character. Type it anew.")
    return name


def _is_proxy(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and _is_plain(address)
    except ValueError:  # a port out of range, half an IPv6 address
        return False


def _is_plain(address: str) -> bool:
    return address.isascii() and address.isprintable() and " " not in address
