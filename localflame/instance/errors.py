"""The loss of an instance, which every caller of one must expect."""

from __future__ import annotations

#: Why an executor could not bind (common/src/apis/types.rs).
INSTALL_FAILED, CREATE_FAILED, ENTER_FAILED = 10, 11, 12


class InstanceLost(Exception):
    """The instance died, or never came up; the message says how, with the end of its log.

    `code` is Flame's for a failed bind, or the process's exit code.
    """

    def __init__(self, message: str, code: int = CREATE_FAILED) -> None:
        super().__init__(message)
        self.code = code
