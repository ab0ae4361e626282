"""An evaluation as JUnit's XML, which CI systems show: a suite for each conversation, a case for each expectation."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from flameagent.trying.evaluation import Case, Evaluation

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def written(found: Evaluation) -> str:
    """The evaluation as a document; characters that XML cannot have are U+FFFD."""
    root = ET.Element("testsuites", {"name": "flame-agent eval", **_counts(found.cases)})
    for case in found.cases:
        suite = ET.SubElement(root, "testsuite", {"name": _text(case.name), **_counts([case])})
        for turn in case.turns:
            for place, check in enumerate(turn.checks):
                lasted = turn.again.seconds if turn.again and place == 0 else 0.0
                made = ET.SubElement(
                    suite,
                    "testcase",
                    classname=_text(case.name),
                    name=_text(f"turn {turn.number}: {check.expectation}"),
                    time=f"{lasted:.3f}",
                )
                if check.outcome != "passed":
                    kind = "failure" if check.outcome == "failed" else "error"
                    told = ET.SubElement(made, kind, message=_text(check.message), type=check.expectation.kind)
                    told.text = _text(
                        f"{check.message}\n\nThe answer was:\n{turn.again.answer if turn.again else ''}"
                    )
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counts(cases: list[Case]) -> dict[str, str]:
    checks = [check for case in cases for turn in case.turns for check in turn.checks]
    return {
        "tests": str(len(checks)),
        "failures": str(sum(check.outcome == "failed" for check in checks)),
        "errors": str(sum(check.outcome == "error" for check in checks)),
        "time": f"{sum(turn.again.seconds for case in cases for turn in case.turns if turn.again):.3f}",
    }


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
