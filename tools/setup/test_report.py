#!/usr/bin/python3
"""Prints one table from ctest's JUnit files and every skip with its reason: test_report.py DIRECTORY LABEL...

Exits with 1 if a test failed, if a label has no report, or if nothing ran at all.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case: ElementTree.Element) -> str:
    return {"run": "passed", "fail": "failed"}.get(case.get("status", ""), "skipped")


def reasons(case: ElementTree.Element) -> list[str]:
    """A test that runs may still skip a part of itself, so passed ones are asked as well."""
    output = case.findtext("system-out") or ""
    said = [line[len("SKIP: ") :].strip() for line in output.splitlines() if line.startswith("SKIP: ")]
    if outcome(case) == "skipped" and not said:
        skipped = case.find("skipped")
        said = [skipped.get("message", "no reason given") if skipped is not None else "no reason given"]
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
