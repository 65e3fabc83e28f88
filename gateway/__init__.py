"""The HTTP face of inference, and the project's frame."""

VERSION = "0.1.0"
