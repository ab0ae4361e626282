"""The user's folders: where settings are read, and where conveniences are kept that nobody misses much.

None where there is no home: no HOME, or one that is no absolute path, and no user of this number in the system.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs

_NAME = "flame-openai-agent"


def configuration() -> Path | None:
    """The folder of the settings file."""
    try:
        return Path(platformdirs.user_config_dir(_NAME, appauthor=False))
    except RuntimeError:
        return None


def state() -> Path | None:
    """The folder of what is remembered between runs."""
    try:
        return Path(platformdirs.user_state_dir(_NAME, appauthor=False))
    except RuntimeError:
        return None


def cache() -> Path | None:
    """The folder of what can be made again."""
    try:
        return Path(platformdirs.user_cache_dir(_NAME, appauthor=False))
    except RuntimeError:
        return None
