"""Forms of routes and of the places that serve them."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget

from profiles.forms import printable
from profiles.models import WORKS, Deployment, Route
from providers.base import Setting
from providers.capabilities import CAPABILITIES, Capability, known


class RouteForm(forms.ModelForm):
    works = forms.MultipleChoiceField(
        label="Kinds of work",
        choices=WORKS,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        initial=[w for w, _ in WORKS],
        help_text="What callers may ask of it.",
    )

    class Meta:
        model = Route
        fields = (
            "name",
            "works",
            "context_window",
            "max_output_tokens",
            "model_name",
            "public",
            "third_party",
            "enabled",
        )
        help_texts = {
            "context_window": "Tokens; only shown to callers.",
            "model_name": "What “model” says in an answer: the name that was asked for, or the upstream's own.",
            "public": "Named on the status page, to everyone, without a key.",
            "third_party": "While it is off, profiles marked as third party do not serve this route: prompts would "
            "reach machines of strangers.",
            "enabled": "While it is off, callers are told that there is no such model.",
        }

    def clean_name(self) -> str:
        return printable(self.cleaned_data["name"])


class DeploymentForm(forms.ModelForm):
    """A row of a route's page."""

    class Meta:
        model = Deployment
        fields = (
            "route",
            "profile",
            "upstream_model",
            "upstream_url",
            "priority",
            "weight",
            "price_input",
            "price_cached",
            "price_cache_write",
            "price_output",
            "price_reasoning",
            "price_audio",
            "enabled",
        )
        help_texts = {
            "price_input": "Empty: costs nothing.",
            "price_output": "Empty: costs nothing.",
            "enabled": "Switch off to take this place out without losing its prices.",
        }

    def clean_upstream_model(self) -> str:
        return printable(self.cleaned_data["upstream_model"])

    def clean_upstream_url(self) -> str:
        url = str(self.cleaned_data["upstream_url"]).strip()
        try:
            Setting("url", "This", kind="url").clean(url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return url

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        profile = cleaned.get("profile")
        provider = profile.provider if profile else None
        if provider is None or "upstream_url" in self.errors:
            return cleaned
        url = cleaned.get("upstream_url", self.instance.upstream_url)
        if provider.has_addressed_models and not url:
            where = "upstream_url" if "upstream_url" in self.fields else "upstream_model"
            self.add_error(
                where,
                f"Each model of {provider.label} has an address of its own. “Fetch models” on the profile's page "
                "fills it in; the deployment's own page has a field for it.",
            )
        elif url and not provider.has_addressed_models and "upstream_url" in self.fields:
            self.add_error(
                "upstream_url", f"Models of {provider.label} have no addresses of their own: leave it empty."
            )
        return cleaned


CAPABILITY_LABELS: dict[Capability, str] = {
    "tools": "Calls tools",
    "images": "Sees images",
    "json_schema": "Answers by JSON schema",
    "thinking": "Thinks when told to",
    "embeddings": "Makes embeddings",
    "streaming": "Streams",
}


def _choice(name: Capability) -> forms.ChoiceField:
    return forms.ChoiceField(label=CAPABILITY_LABELS[name], required=False, widget=UnfoldAdminSelectWidget())


class DeploymentPageForm(DeploymentForm):
    """A page of its own, with room for what the operator knows better than the listing."""

    can_tools = _choice("tools")
    can_images = _choice("images")
    can_json_schema = _choice("json_schema")
    can_thinking = _choice("thinking")
    can_embeddings = _choice("embeddings")
    can_streaming = _choice("streaming")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        listed = known(self.instance.listed.get("capabilities"))
        stated = known(self.instance.capabilities)
        for name in CAPABILITIES:
            said = {True: "yes", False: "no", None: "not said"}[listed.get(name)]
            choice: Any = self.fields[capability_field(name)]
            choice.choices = (("", f"As listed ({said})"), ("yes", "Yes"), ("no", "No"))
            self.initial[capability_field(name)] = {True: "yes", False: "no", None: ""}[stated.get(name)]

    def save(self, commit: bool = True) -> Deployment:
        stated = {name: self.cleaned_data[capability_field(name)] for name in CAPABILITIES}
        self.instance.capabilities = {name: word == "yes" for name, word in stated.items() if word}
        return super().save(commit)  # type: ignore[no-any-return]


def capability_field(name: Capability) -> str:
    return f"can_{name}"
