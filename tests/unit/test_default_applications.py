"""The applications that every engine registers at its start."""

from __future__ import annotations

from localflame.application_spec import default_applications, full_application_spec


def test_they_are_as_somebody_elses_would_be_after_all_checks() -> None:
    assert default_applications() == {
        name: full_application_spec(spec) for name, spec in default_applications().items()
    }
