"""The specification of a session, completed and checked as Flame does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flamewire.stubs import types
from localflame.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable

# session_manager/src/apiserver/frontend.rs, where the cluster's configuration has no resreq
DEFAULT_RESREQ = types.ResourceRequirement(cpu=1, memory=1024**3, gpu=0)


def full_session_spec(spec: Any) -> Any:
    """The spec with Flame's defaults. Raises INVALID_ARGUMENT."""
    batch, least = max(spec.batch_size, 1), spec.min_instances
    if batch > 1:
        if least % batch:
            raise invalid(f"min_instances ({least}) must be 0 or a multiple of batch_size ({batch})")
        if spec.HasField("max_instances") and spec.max_instances % batch:
            raise invalid(f"max_instances ({spec.max_instances}) must be a multiple of batch_size ({batch})")
    full = types.SessionSpec()
    full.CopyFrom(spec)
    full.batch_size = batch
    if not full.HasField("resreq"):
        full.resreq.CopyFrom(DEFAULT_RESREQ)
    return full


def check_same_spec(id: str, spec: Any, wanted: Any) -> None:
    """Raises INVALID_ARGUMENT where the session `id` has another spec than who opens it wants.

    All but the common data is compared (common/src/apis/session.rs, validate_spec).
    """
    parts: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("application", lambda spec: f"'{spec.application}'"),
        ("resreq", _show_resreq),
        ("min_instances", lambda spec: str(spec.min_instances)),
        ("max_instances", lambda spec: f"Some({spec.max_instances})" if spec.HasField("max_instances") else "None"),
        ("batch_size", lambda spec: str(spec.batch_size)),
        ("priority", lambda spec: str(spec.priority)),
    )
    for name, show in parts:
        expected, got = show(spec), show(wanted)
        if expected != got:
            raise invalid(f"session <{id}> spec mismatch: {name} differs (expected {expected}, got {got})")


def _show_resreq(spec: Any) -> str:
    need = spec.resreq
    return f"Some(ResourceRequirement {{ cpu: {need.cpu}, memory: {need.memory}, gpu: {need.gpu} }})"
