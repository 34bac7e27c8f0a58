"""What the book shows of how the doctor was judged: the store that ``make doctor`` fills.

The store is a file, so no page waits for it, and a chapter types no number of it:

* ``{doctor}`PART` `` is half a sentence on a part of it: `faults`, `missed`, `twins`, `healthy`,
  `architectures`, `rival`, `version` (of the rival), `timing` or `watching`;
* ```` ```{doctor-table} ```` is a table of the rules with what they found;
* ```` ```{doctor-rules} ```` says all of each rule, from its file and from the store.
"""

import json
import re
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
    if part == "missed":
        missed = [f"{e['rule']} in the network {e['network']}" for e in faults if not e["found"]]
        return _listed(missed) or "none"
    if part == "version":
        return next(e["made"]["versions"]["torch-audit"] for e in store["rival"])
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


def markdown(store, name="`{rule}`"):
    """Return the table in Markdown: of each rule the faults that it found, and quiet twins.

    `name` is how a rule is shown; on a page it can be a link.
    """
    rival, rules = _by_name(store["rival"]), {}
    for entry in store["faults"]:
        rules.setdefault(entry["rule"], []).append(entry)
    lines = ["| Rule | Found | Quiet on the twin | Found by torch-audit |", "|:--|--:|--:|--:|"]
    for rule, own in sorted(rules.items()):
        theirs = [rival.get(e["name"], {}) for e in own]
        counts = _count(own, "found"), len(own) - _count(own, "twin"), _count(theirs, "found")
        cells = [name.format(rule=rule), *(f"{n} of {len(own)}" for n in counts)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rules(store):
    """Return a section of Markdown for each rule, with a label, ``rule-few-values``."""
    from bnlib.doctor import all_rules  # a page without them needs no torch
    from bnlib.doctor.case import needed

    known = all_rules()

    def linked(text):
        """Link what stands as `few_values` in the text of a rule."""
        text = " ".join(text.split())
        return re.sub(r"(?<!`)`(\w+)`(?!`)", lambda found: link(found[1]) or found[0], text)

    def link(file):
        name = file.replace("_", "-")
        return f"{{ref}}`{name} <rule-{name}>`" if name in known else ""

    for name, rule in known.items():
        rest = rule.text.partition("\n")[2].strip()
        own = [entry for entry in store["faults"] if entry["rule"] == name]
        count, quiet = _count(own, "found"), len(own) - _count(own, "twin")
        found = f"found {count} of {len(own)} planted faults, quiet on {quiet} of {len(own)} twins"
        stories = dict.fromkeys(entry["story"] for entry in own)
        label = rule.chapter.partition("#")[2] or f"ch-{rule.chapter.replace('_', '-')}"
        yield "\n\n".join(
            [
                f"(rule-{name})=\n### {name}",
                f"{rule.severity.capitalize()}. **{rule.summary}** {linked(rest)}",
                f"- **What to do:** {rule.fix}.\n"
                f"- **It needs** {'; '.join(map(needed, rule.needs))}.\n"
                + "".join(
                    f"- **Threshold** `{key} = {value:g}`: {linked(why)}\n"
                    for key, (value, why) in rule.thresholds.items()
                )
                + f"- **How it was judged:** {found} ({{ref}}`table <debugging-how-often>`). How "
                f"people come to it: {' '.join(stories)}\n"
                f"- **More:** {{ref}}`{label}`.",
            ]
        )


def _listed(words):
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


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
        table = markdown(read(self.env.srcdir), "{{ref}}`{rule} <rule-{rule}>`")
        return self.parse_text_to_nodes(table)


class DoctorRules(SphinxDirective):
    """All rules, each in a section."""

    def run(self):
        """Read the rules and the store, and write them."""
        self.env.note_dependency(str(Path(self.env.srcdir, FILE)))
        for path in Path(self.env.srcdir, "bnlib", "doctor").rglob("*.py"):
            self.env.note_dependency(str(path))
        text = "\n\n".join(rules(read(self.env.srcdir)))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app):
    """Register with Sphinx."""
    app.add_role("doctor", DoctorRole())
    app.add_directive("doctor-table", DoctorTable)
    app.add_directive("doctor-rules", DoctorRules)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
