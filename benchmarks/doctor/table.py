"""What the doctor found, in a JSON file with one entry a line; it can be stopped at any time."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import bnlib
from benchmarks.doctor import architectures, rival
from benchmarks.doctor.case import Fault, findings, look
from benchmarks.doctor.faults import FAULTS
from benchmarks.doctor.healthy import HEALTHY
from bnlib.experiments.records.cache import write_atomically
from bnlib.experiments.records.provenance import versions

PATH = Path("book", "_data", "doctor.json")
PARTS = ("faults", "healthy", "rival", "architectures", "timing")
ALARMS = ("error", "warning")
OTHERS = ("torch", "timm", "torch-audit")


def source(part: str) -> str:
    """Hash the code that an entry depends on: the doctor or its rival, and the cases."""
    here = Path(__file__).parent
    cases = [*here.joinpath("faults").glob("*.py"), here / "networks.py", here / "healthy.py"]
    doctor = [*Path(bnlib.__file__).parent.joinpath("doctor").rglob("*.py")]
    files = {
        "faults": [*doctor, *cases],
        "healthy": [*doctor, *cases],
        "rival": [here / "rival.py", *cases],
        "architectures": [*doctor, here / "architectures.py"],
        "timing": [*doctor, here / "architectures.py"],
    }[part]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(ast.dump(_Code().visit(ast.parse(file.read_bytes()))).encode())
    return digest.hexdigest()[:16]


class _Code(ast.NodeTransformer):
    """What a file computes, without its docstrings and comments."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def provenance(part: str, seconds: float) -> dict[str, Any]:
    """Say when, with what and from which sources an entry was made."""
    others = {}
    for package in OTHERS:
        try:
            others[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 2),
        "processor": platform.machine(),
        "versions": {**versions(), **others},
        "source": source(part),
    }


def load(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a file by part and name; empty parts if there is none."""
    content = json.loads(path.read_text("utf8")) if path.is_file() else {}
    return {part: {e["name"]: e for e in content.get(part, [])} for part in PARTS}


def save(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Write the entries, one a line."""
    parts = []
    for part, named in entries.items():
        lines = ",\n".join(json.dumps(named[name], allow_nan=False) for name in sorted(named))
        parts.append(f'"{part}": [\n{lines}\n]')
    write_atomically(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def fill(
    path: Path, part: str, jobs: Iterable[tuple[str, Callable[[], dict[str, Any]]]], minutes: float
) -> None:
    """Compute the entries of a part that are missing or old, until the time is up."""
    from tqdm.auto import tqdm

    entries, now, end = load(path), source(part), time.monotonic() + 60 * minutes
    jobs = list(jobs)
    names = {name for name, _ in jobs}
    kept = {name: entry for name, entry in entries[part].items() if name in names}
    if len(kept) < len(entries[part]):
        entries[part] = kept
        save(path, entries)
    todo = [(name, job) for name, job in jobs if not _is_current(kept.get(name), now)]
    entries[part] = kept
    for name, job in tqdm(todo, desc=part, unit="case"):
        if time.monotonic() > end:
            print(f"{part}: the time is up; the same command goes on")
            break
        start = time.perf_counter()
        try:
            entry = job()
        except Exception as error:  # an architecture, a rule: the others are to go on
            entry = {"failed": f"{type(error).__name__}: {error}"[:300]}
        entries[part][name] = {
            "name": name,
            **entry,
            "made": provenance(part, time.perf_counter() - start),
        }
        save(path, entries)


def _is_current(entry: dict[str, Any] | None, now: str) -> bool:
    return entry is not None and "failed" not in entry and entry["made"]["source"] == now


def fault_entry(fault: Fault) -> dict[str, Any]:
    """Return what the doctor finds of a fault and in its twin."""
    faulty, twin = summary(findings(fault)), summary(findings(fault, faulty=False))
    return {
        "rule": fault.rule,
        "network": fault.kind.__name__,
        "story": fault.story,
        "remedy": fault.remedy,
        "found": faulty.get(fault.rule, ""),
        "twin": twin.get(fault.rule, ""),
        "others": {k: v for k, v in faulty.items() if k != fault.rule},
        "alarms": alarms(twin),
    }


def healthy_entry(name: str) -> dict[str, Any]:
    """Return what the doctor says of a healthy model."""
    make = HEALTHY[name]
    found = summary(look(make()))
    return {"why": make.__doc__, "findings": found, "alarms": alarms(found)}


def architecture_entry(name: str) -> dict[str, Any]:
    """Return what the doctor says of an architecture."""
    about = architectures.survey(name)
    entry = about._asdict() | {"skipped": about.skipped}
    if not about.norms or about.skipped:
        return entry
    found = summary(look(architectures.case_of(about)))
    return entry | {"findings": found, "alarms": alarms(found)}


def summary(found: Iterable[Any]) -> dict[str, str]:
    """Return the rules that found something, each with the worst severity."""
    order = ("note", "warning", "error")
    worst: dict[str, str] = {}
    for finding in found:
        before = worst.get(finding.rule, order[0])
        worst[finding.rule] = max(before, finding.severity, key=order.index)
    return dict(sorted(worst.items()))


def alarms(found: dict[str, str]) -> list[str]:
    """Return the rules that found an error or a warning."""
    return [rule for rule, severity in found.items() if severity in ALARMS]


def fill_all(path: Path = PATH, parts: Iterable[str] = PARTS, minutes: float = 30.0) -> None:
    """Compute what is missing or old."""
    parts = set(parts)
    if "faults" in parts:
        fill(path, "faults", [(f.name, lambda f=f: fault_entry(f)) for f in FAULTS], minutes)
    if "healthy" in parts:
        fill(path, "healthy", [(n, lambda n=n: healthy_entry(n)) for n in HEALTHY], minutes)
    if "rival" in parts and rival.is_installed():
        jobs = [(f.name, lambda f=f: rival.compare(f)) for f in FAULTS]
        jobs += [
            (n, lambda n=n: {"alarms": sorted(rival.alarms_of(HEALTHY[n]()))}) for n in HEALTHY
        ]
        fill(path, "rival", jobs, minutes)
    if "architectures" in parts and architectures.names():
        names = architectures.names()
        jobs = [(n, lambda n=n: architecture_entry(n)) for n in names]
        fill(path, "architectures", jobs, minutes)
    if "timing" in parts and architectures.names():
        jobs = [(n, lambda n=n: architectures.timing(n)) for n in architectures.TIMED]
        fill(path, "timing", jobs, minutes)


def report(entries: dict[str, dict[str, Any]]) -> str:
    """Return the table for people."""
    lines = ["rule: found in so many of its cases, twins it is quiet on, torch-audit found", ""]
    faults = [*entries["faults"].values()]
    for rule in dict.fromkeys(e.get("rule", "failed") for e in faults):
        own = [e for e in faults if e.get("rule", "failed") == rule]
        found = sum(bool(e.get("found")) for e in own)
        quiet = sum(not e.get("twin") and not e.get("failed") for e in own)
        theirs = sum(entries["rival"].get(e["name"], {}).get("found", False) for e in own)
        lines.append(f"{rule:34} {found}/{len(own)}   {quiet}/{len(own)}   {theirs}/{len(own)}")
    missed = [e["name"] for e in faults if not e.get("found")]
    lines += ["", f"missed: {', '.join(missed) or 'none'}"]
    for part in ("healthy", "architectures"):
        lines += ["", *_alarms_of(part, [*entries[part].values()])]
    for e in sorted(entries["timing"].values(), key=lambda e: e.get("ratio", 0.0)):
        if "ratio" in e:
            lines.append(
                f"{e['name']:34} examine {e['examine']:.2f} s, {e['ratio']:.0f} training steps; "
                f"a watched step {e['watched']:.2f}"
            )
    others = [e for e in entries["rival"].values() if "alarms" in e]
    twins = [e for e in others if "found" in e]
    for kind, some in (("twins", twins), ("healthy", [e for e in others if e not in twins])):
        count = sum(bool(e["alarms"]) for e in some)
        lines += ["", f"torch-audit, {kind}: {count} of {len(some)} with an error or a warning"]
    return "\n".join(lines)


def _alarms_of(part: str, entries: list[dict[str, Any]]) -> list[str]:
    examined = [e for e in entries if "findings" in e]
    alarmed = [e for e in examined if e["alarms"]]
    rules = Counter(rule for e in examined for rule in e["alarms"])
    skipped = Counter(e["skipped"] for e in entries if e.get("norms") and e.get("skipped"))
    failed = [f"{e['name']} ({e['failed'][:80]})" for e in entries if e.get("failed")]
    lines = [f"{part}: {len(alarmed)} of {len(examined)} with an error or a warning"]
    lines += [f"  {rule}: {count}" for rule, count in rules.most_common()]
    lines += [f"  skipped, {why}: {count}" for why, count in skipped.items()]
    if part == "healthy":
        lines += [f"  {e['name']}: {', '.join(e['alarms'])}" for e in alarmed]
    return lines + [f"  failed: {each}" for each in failed]
