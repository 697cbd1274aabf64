"""Loads the settings that torch and the Hugging Face libraries read when they are first imported."""

import components.model  # noqa: F401
