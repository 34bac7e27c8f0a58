"""What the book shows of how the doctor was judged: the store that ``make doctor`` fills.

The store is a file, so no page waits for it, and a chapter types no number of it:

* ``{doctor}`PART` `` is half a sentence on a part of it: `faults`, `twins`, `healthy`,
  `architectures`, `rival`, `timing` or `watching`;
* ```` ```{doctor-table} ```` is a table of the rules with what they found.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

FILE = Path("book", "_data", "doctor.json")


def read(root):
    """Return the entries of the store, a list for each part."""
    return json.loads(Path(root, FILE).read_text("utf8"))


def sentence(store, part):
    """Say in half a sentence what a part of the store holds."""
    faults, rival = store["faults"], _by_name(store["rival"])
    if part == "faults":
        return f"{_count(faults, 'found')} of {len(faults)} planted faults"
    if part == "twins":
        return f"{_count(faults, 'alarms')} of {len(faults)} healthy twins"
    if part == "rival":
        own = [rival[e["name"]] for e in faults if e["name"] in rival]
        return f"{_count(own, 'found')} of {len(own)} planted faults"
    if part == "watching":
        return f"{max(e['watched'] for e in store['timing']) - 1:.0%} of a training step"
    if part == "timing":
        ratios = sorted(e["ratio"] for e in store["timing"])
        return f"{ratios[0]:.0f} to {ratios[-1]:.0f} training steps"
    seen = [e for e in store[part] if "findings" in e]
    kind = {"healthy": "healthy models", "architectures": "architectures"}[part]
    return f"{_count(seen, 'alarms')} of {len(seen)} {kind}"


def markdown(store):
    """Return the table in Markdown: of each rule the faults that it found, and quiet twins."""
    rival, rules = _by_name(store["rival"]), {}
    for entry in store["faults"]:
        rules.setdefault(entry["rule"], []).append(entry)
    lines = ["| Rule | Found | Quiet on the twin | Found by torch-audit |", "|:--|--:|--:|--:|"]
    for rule, own in sorted(rules.items()):
        theirs = [rival.get(e["name"], {}) for e in own]
        counts = _count(own, "found"), len(own) - _count(own, "twin"), _count(theirs, "found")
        lines.append(f"| `{rule}` | {' | '.join(f'{n} of {len(own)}' for n in counts)} |")
    return "\n".join(lines)


def _by_name(entries):
    return {entry["name"]: entry for entry in entries}


def _count(entries, key):
    return sum(bool(entry.get(key)) for entry in entries)


class DoctorRole(SphinxRole):
    """Half a sentence on a part of the store."""

    def run(self):
        """Read the store and write it, as a page that depends on it."""
        self.env.note_dependency(str(Path(self.env.srcdir, FILE)))
        return [nodes.inline("", sentence(read(self.env.srcdir), self.text))], []


class DoctorTable(SphinxDirective):
    """The table of the rules."""

    def run(self):
        """Read the store and write it, as a page that depends on it."""
        self.env.note_dependency(str(Path(self.env.srcdir, FILE)))
        return self.parse_text_to_nodes(markdown(read(self.env.srcdir)))


def setup(app):
    """Register with Sphinx."""
    app.add_role("doctor", DoctorRole())
    app.add_directive("doctor-table", DoctorTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
