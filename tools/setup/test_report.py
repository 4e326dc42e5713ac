#!/usr/bin/python3
"""Prints one table from ctest's JUnit files and every skip with its reason: test_report.py DIRECTORY LABEL...

Exits with 1 if a test failed, if a label has no report, or if nothing ran at all.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case: ElementTree.Element) -> str:
    """Only a test that said so itself (exit code 77) is skipped; one whose program is missing has failed."""
    if case.get("status") == "run":
        return "passed"
    skipped = case.find("skipped")
    said_so = skipped is not None and skipped.get("message", "").startswith("SKIP_")
    return "skipped" if said_so else "failed"


def reasons(case: ElementTree.Element) -> list[str]:
    """A test that runs may still skip a part of itself, so passed ones are asked as well."""
    output = case.findtext("system-out") or ""
    said = [line[len("SKIP: ") :].strip() for line in output.splitlines() if line.startswith("SKIP: ")]
    if outcome(case) == "skipped" and not said:
        said = ["no reason given"]
    return said


def main() -> int:
    directory = pathlib.Path(sys.argv[1])
    skips: list[str] = []
    failures: list[str] = []
    ran = 0
    print(f"\n{'label':8}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for label in sys.argv[2:]:
        file = directory / f"{label}.xml"
        if not file.exists():
            failures.append(f"{label}: ctest left no report")
            continue
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        seconds = 0.0
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            counts[outcome(case)] += 1
            seconds += float(case.get("time", 0))
            skips += [f"{label}: {case.get('name')}: {reason}" for reason in reasons(case)]
            if outcome(case) == "failed":
                failures.append(f"{label}: {case.get('name')}")
        if not sum(counts.values()):
            skips.append(f"{label}: there is no such test in this build")
        ran += counts["passed"] + counts["failed"]
        print(f"{label:8}{counts['passed']:8}{counts['failed']:8}{counts['skipped']:8}{seconds:9.1f}")

    print("\nskipped:" if skips else "\nskipped: nothing")
    for skip in skips:
        print(f"  {skip}")
    if failures:
        print("failed:")
        for failure in failures:
            print(f"  {failure}")
    elif not ran:
        print("failed: no test ran")
    return 1 if failures or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
