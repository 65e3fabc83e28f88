"""Static files under hashed names, so that a browser never mixes two versions, and gzipped."""

from __future__ import annotations

from typing import Any

from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFiles(CompressedManifestStaticFilesStorage):
    """Without Brotli: squeezing some more bytes out of the theme would take half a minute of the first start."""

    manifest_strict = False

    def create_compressor(self, **options: Any) -> Compressor:
        return Compressor(use_brotli=False, **options)
