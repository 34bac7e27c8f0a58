"""The rules of the book that a machine can check, and proof that each of them can fail.

A rule takes a chapter and lists what is wrong with it. `BROKEN` breaks a faultless chapter in one
place per entry; the rule named there must object, and no rule may object to the chapter itself.
"""

import ast
import doctest
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pages import notebooks, prose, words

ROOT = Path(__file__).parents[2]
LINES_PER_CELL = 25
BULLETS_OF_SUMMARY = 5
WORDS = range(1200, 3001)
EXERCISES = 3
SECTIONS = [
    "What you will learn",
    "You need",
    "What is known and what is not",
    "Summary",
    "In practice",
    "Further reading",
]


def toc_entries():
    """List the pages of the table of contents, in order."""

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key in ("root", "file") else walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return list(walk(yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))))


FOLD = r"^```+\{admonition\} Show the answer\n:class: dropdown"
CHAPTERS = notebooks(numbered=True)
REFERENCE = notebooks(numbered=False)  # to look things up: without the shape of a chapter


# ------------------------------------------------------------------ parts of a chapter


def code_cells(chapter):
    return [cell for cell in chapter.cells if cell.cell_type == "code"]


def statements(chapter):
    """Walk over the syntax of all code cells."""
    for cell in code_cells(chapter):
        yield from ast.walk(ast.parse(cell.source))


def calls(chapter, name):
    """Find the calls of a function or method by its last name."""
    for node in statements(chapter):
        if isinstance(node, ast.Call) and re.search(rf"\b{name}$", ast.unparse(node.func)):
            yield node


def section(text, title):
    """Return what stands below a heading (or a bold line), up to the next heading."""
    start = re.search(rf"^(#+ |\*\*){re.escape(title)}\b.*$", text, re.MULTILINE | re.IGNORECASE)
    if start is None:
        return None
    return re.split(r"^#+ ", text[start.end() :], maxsplit=1, flags=re.MULTILINE)[0]


# ------------------------------------------------------------------ the rules


def has_its_label(chapter, name):
    label = f"(ch-{name.replace('_', '-')})=\n# "
    if not chapter.cells or not chapter.cells[0].source.startswith(label):
        yield f"the first cell starts with the label and the title: {label!r}"


def has_a_description(chapter, name):
    meta = chapter.metadata.get("myst", {}).get("html_meta", {})
    if not meta.get("description"):
        yield "the metadata hold a description: myst.html_meta.description"


def has_every_section(chapter, name):
    for title in SECTIONS:
        if section(prose(chapter), title) is None:
            yield f"a section {title!r}"


def has_a_short_summary(chapter, name):
    bullets = re.findall(r"^[-*] ", section(prose(chapter), "Summary") or "", re.MULTILINE)
    if not 1 <= len(bullets) <= BULLETS_OF_SUMMARY:
        yield f"a summary of at most {BULLETS_OF_SUMMARY} bullets, not {len(bullets)}"


def has_exercises_with_gated_solutions(chapter, name):
    text = prose(chapter)
    exercises = re.findall(r"\{exercise-start\}.*\n(?::.*\n)*?:label: (\S+)", text)
    solutions = re.findall(r"\{solution-start\} (\S+)", text)
    if len(set(exercises)) < EXERCISES:
        yield f"at least {EXERCISES} exercises, not {len(set(exercises))}"
    for exercise in exercises:
        if not re.fullmatch(rf"ex-{name.replace('_', '-')}-\w+", exercise):
            yield f"a label of the form ex-{name.replace('_', '-')}-1, not {exercise}"
    if sorted(exercises) != sorted(solutions):
        yield f"one solution for each exercise: {exercises} and {solutions}"
    for kind, starts in (("exercise", exercises), ("solution", solutions)):
        if len(re.findall(rf"\{{{kind}-end\}}", text)) != len(starts):
            yield f"an {kind}-end for each {kind}-start"
    if text.count(":class: dropdown") < len(solutions):
        yield "each solution is folded (:class: dropdown)"


def has_the_length_of_a_chapter(chapter, name):
    count = words(prose(chapter))
    if count not in WORDS:
        yield f"{WORDS.start} to {WORDS.stop - 1} words of prose, not {count}"


def is_stored_without_outputs(chapter, name):
    for cell in code_cells(chapter):
        if cell.outputs or cell.execution_count is not None:
            yield f"no outputs (nbstripout --keep-id): {cell.source[:60]!r}"


def has_short_cells(chapter, name):
    for cell in code_cells(chapter):
        if (count := len(cell.source.splitlines())) > LINES_PER_CELL:
            yield f"at most {LINES_PER_CELL} lines a cell, not {count}: {cell.source[:60]!r}"


def has_plain_python(chapter, name):
    for cell in code_cells(chapter):
        for line in cell.source.splitlines():
            if re.match(r"\s*[%!]", line) or line.rstrip().endswith(";"):
                yield f"no magics, shell commands or trailing semicolons: {line!r}"


def defines_no_class(chapter, name):
    """A class belongs into the library, unless it is what the chapter teaches (tag `lesson`)."""
    for cell in code_cells(chapter):
        if "lesson" not in cell.metadata.get("tags", []):
            nodes = ast.walk(ast.parse(cell.source))
            yield from (f"no class {n.name}" for n in nodes if isinstance(n, ast.ClassDef))


def leaves_the_style_alone(chapter, name):
    for node in statements(chapter):
        if isinstance(node, ast.Attribute) and node.attr == "rcParams":
            yield "no plt.rcParams: use_style() sets the style"
        if isinstance(node, ast.keyword) and node.arg == "figsize":
            yield "no figsize: use_style() sets it"
    yield from ("no legend: label_ends() labels the lines" for _ in calls(chapter, "legend"))


def has_no_global_seed(chapter, name):
    """Random numbers come from a generator that is passed on."""
    for node in statements(chapter):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.fullmatch(
                r"(np|numpy)\.random\.(?!default_rng$|Generator$|SeedSequence$|PCG64$).*"
                r"|torch\.(cuda\.)?manual_seed(_all)?|random\.seed",
                called,
            ):
                yield f"no global random state: {called}"


def describes_every_figure(chapter, name):
    text = prose(chapter)
    for cell in code_cells(chapter):
        for call in (n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)):
            if getattr(call.func, "id", None) != "show":
                continue
            values = {k.arg: k.value for k in call.keywords}
            label = (
                call.args[1].value
                if len(call.args) > 1
                else getattr(values.get("name"), "value", "?")
            )
            alt = values.get("alt")
            if alt is None or (isinstance(alt, ast.Constant) and not str(alt.value).strip()):
                yield f"{label}: alternative text"
            if missing := {"hide-input", "remove-output"} - {*cell.metadata.get("tags", [])}:
                yield f"{label}: the cell carries the tags {sorted(missing)}"
            figure = re.search(
                rf"^(```+)\{{glue:figure\}} {re.escape(str(label))}\n(.*?)^\1",
                text,
                re.DOTALL | re.M,
            )
            caption = re.sub(r"^:\w+:.*\n", "", figure[2], flags=re.M) if figure else ""
            if not caption.strip():
                yield f"{label}: a glue:figure with a caption"
    yield from (f"alternative text: {image}" for image in re.findall(r"!\[\s*\]\([^)]*\)", text))


def gates_every_prediction(chapter, name):
    """Between a prediction and the fold with its answer, the page shows no number and no figure."""
    asked = None
    for cell in chapter.cells:
        if cell.cell_type == "code":
            shows = re.search(r"print\w*\(|show\(", cell.source)
            tags = {*cell.metadata.get("tags", [])}
            if asked and shows and not tags & {"hide-cell", "hide-output", "remove-output"}:
                yield f"a hidden output (tag hide-output) behind {asked!r}: {cell.source[:40]!r}"
            continue
        for part in re.split(rf"({FOLD}|^#+ .*|\*\*Predict.*)", cell.source, flags=re.MULTILINE):
            if part.startswith("**Predict"):
                asked = part
            elif asked and part.startswith("#"):
                yield f"a fold 'Show the answer' for {asked!r}"
            elif asked and re.search(r"\{(glue:\w+|verdict|multiverse)\}", part):
                yield f"the answer to {asked!r} stands in a fold: {part[:60]!r}"
            if re.match(rf"#+ |{FOLD}", part):
                asked = None
    if asked:
        yield f"a fold 'Show the answer' for {asked!r}"


def loads_nothing_from_other_hosts(chapter, name):
    pattern = r"<(?:img|script|iframe|link)[^>]*https?://[^>]*>|!\[[^]]*\]\(https?://[^)]*\)"
    yield from (
        f"nothing from another host: {found}" for found in re.findall(pattern, prose(chapter))
    )


RULES_OF_CHAPTERS = [
    has_every_section,
    has_a_short_summary,
    has_exercises_with_gated_solutions,
    has_the_length_of_a_chapter,
]
RULES_OF_NOTEBOOKS = [
    has_its_label,
    has_a_description,
    is_stored_without_outputs,
    has_short_cells,
    has_plain_python,
    defines_no_class,
    leaves_the_style_alone,
    has_no_global_seed,
    describes_every_figure,
    gates_every_prediction,
    loads_nothing_from_other_hosts,
]
RULES = [*RULES_OF_CHAPTERS, *RULES_OF_NOTEBOOKS]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


@every_rule
@pytest.mark.parametrize("entry", CHAPTERS)
def test_chapter(entry, rule):
    chapter = nbformat.read(ROOT / f"{entry}.ipynb", as_version=4)
    assert list(rule(chapter, Path(entry).name)) == []


@pytest.mark.parametrize("rule", RULES_OF_NOTEBOOKS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("entry", REFERENCE)
def test_reference(entry, rule):
    page = nbformat.read(ROOT / f"{entry}.ipynb", as_version=4)
    assert list(rule(page, Path(entry).name)) == []


# ------------------------------------------------------------------ each rule can fail

EXERCISE = """\
```{{exercise-start}} By hand
:label: ex-small-{0}
```

Compute.

```{{exercise-end}}
```

```{{solution-start}} ex-small-{0}
:label: sol-small-{0}
:class: dropdown
```

It is two.

```{{solution-end}}
```
"""
CAPTION = "```{glue:figure} fig-small-one\n:name: fig-small-one\nThe finding.\n```"
ANSWER = f"````{{admonition}} Show the answer\n:class: dropdown\n\n{CAPTION}\n````"


def faultless():
    """Return the smallest chapter that follows every rule."""
    cells = [
        new_markdown_cell("(ch-small)=\n# Small\n\nThe question, and the answer."),
        new_markdown_cell("## What you will learn\n\n- To compute.\n\n**You need** nothing."),
        new_code_cell(
            "rng = np.random.default_rng(0)\nnetwork = init(torch.Generator().manual_seed(0))"
        ),
        new_markdown_cell("**Predict:** how many?"),
        new_code_cell("print(2)", metadata={"tags": ["hide-output"]}),
        new_code_cell(
            'show(fig, "fig-small-one", alt="A line.")',
            metadata={"tags": ["hide-input", "remove-output"]},
        ),
        new_markdown_cell(ANSWER),
        new_markdown_cell("word " * WORDS.start),
        new_markdown_cell("## What is known and what is not\n\nMuch.\n\n## Exercises\n"),
        *[new_markdown_cell(EXERCISE.format(i)) for i in range(EXERCISES)],
        new_markdown_cell(
            "## Summary\n\n- One.\n\n## In practice\n\nYes.\n\n## Further reading\n\nA book."
        ),
    ]
    return new_notebook(cells=cells, metadata={"myst": {"html_meta": {"description": "Small."}}})


def replaced(old, new):
    """Break a chapter by replacing a text in whichever cell holds it."""

    def breaks(chapter):
        assert any(old in cell.source for cell in chapter.cells)
        for cell in chapter.cells:
            cell.source = cell.source.replace(old, new)

    return breaks


def added(code, *tags):
    cell = new_code_cell(code, metadata={"tags": list(tags)})
    return lambda chapter: chapter.cells.append(cell)


def tagless(code):
    def breaks(chapter):
        (cell,) = (cell for cell in code_cells(chapter) if cell.source.startswith(code))
        cell.metadata["tags"] = []

    return breaks


def executed(chapter):
    code_cells(chapter)[0].execution_count = 1


def undescribed(chapter):
    del chapter.metadata["myst"]


BROKEN = [
    (has_its_label, replaced("(ch-small)=\n", "")),
    (has_its_label, replaced("ch-small", "ch-other")),
    (has_a_description, undescribed),
    *[(has_every_section, replaced(title, "Something else")) for title in SECTIONS],
    (has_a_short_summary, replaced("- One.", "- One.\n" * (BULLETS_OF_SUMMARY + 1))),
    (has_a_short_summary, replaced("- One.", "One.")),
    (has_exercises_with_gated_solutions, replaced("ex-small-1", "ex-small-0")),
    (has_exercises_with_gated_solutions, replaced(EXERCISE.format(1), "")),
    (has_exercises_with_gated_solutions, replaced("{solution-start} ex-small-1", "{note}")),
    (has_exercises_with_gated_solutions, replaced("```{exercise-end}\n```", "")),
    (has_exercises_with_gated_solutions, replaced(":class: dropdown\n", "")),
    (has_exercises_with_gated_solutions, replaced("ex-small-2", "ex-2")),
    (has_the_length_of_a_chapter, replaced("word " * WORDS.start, "word " * 100)),
    (has_the_length_of_a_chapter, replaced("word " * WORDS.start, "word " * WORDS.stop)),
    (
        has_the_length_of_a_chapter,
        replaced(
            "word " * WORDS.start,
            f"````{{admonition}} Optional\n{'word ' * WORDS.start}\n````",
        ),
    ),
    (has_the_length_of_a_chapter, replaced("word " * WORDS.start, f"${'word ' * WORDS.start}$")),
    (is_stored_without_outputs, executed),
    (has_short_cells, added("x = 1\n" * (LINES_PER_CELL + 1))),
    (has_plain_python, replaced("rng = ", "%time rng = ")),
    (has_plain_python, replaced("rng = ", "!pip install x\nrng = ")),
    (has_plain_python, replaced('alt="A line.")', 'alt="A line.");')),
    (defines_no_class, added("class Layer: ...")),
    (defines_no_class, added("class Layer: ...", "check")),
    (leaves_the_style_alone, added("plt.rcParams['font.size'] = 9")),
    (leaves_the_style_alone, added("plt.subplots(figsize=(3, 2))")),
    (leaves_the_style_alone, added("ax.legend()")),
    (has_no_global_seed, added("np.random.seed(0)")),
    (has_no_global_seed, added("x = np.random.randn(3)")),
    (has_no_global_seed, added("torch.manual_seed(0)")),
    (describes_every_figure, replaced(', alt="A line."', "")),
    (describes_every_figure, replaced("A line.", " ")),
    (describes_every_figure, replaced("The finding.\n", "")),
    (describes_every_figure, replaced(CAPTION, "")),
    (describes_every_figure, tagless("show")),
    (describes_every_figure, replaced("Much.", "![](figure.svg)")),
    (gates_every_prediction, tagless("print")),
    (gates_every_prediction, replaced(ANSWER, CAPTION)),
    (gates_every_prediction, replaced(ANSWER, f"It is {{glue:text}}`small-one`.\n\n{ANSWER}")),
    (gates_every_prediction, replaced(ANSWER, "Two.")),
    (gates_every_prediction, replaced("A book.", "**Predict:** and then?")),
    (loads_nothing_from_other_hosts, replaced("Much.", '<img src="https://a.org/b.png" alt="b">')),
    (loads_nothing_from_other_hosts, replaced("Much.", "![b](https://a.org/b.png)")),
]


@every_rule
def test_rule_passes_the_faultless_chapter(rule):
    assert list(rule(faultless(), "small")) == []


@pytest.mark.parametrize(
    ("rule", "breaks"), BROKEN, ids=[f"{r.__name__}-{i}" for i, (r, _) in enumerate(BROKEN)]
)
def test_rule_can_fail(rule, breaks):
    chapter = faultless()
    breaks(chapter)
    assert list(rule(chapter, "small")) != []


def test_a_class_that_is_the_lesson_is_allowed():
    chapter = faultless()
    added("class Layer: ...", "lesson")(chapter)
    assert list(defines_no_class(chapter, "small")) == []


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _ in BROKEN} == set(RULES)


# ------------------------------------------------------------------ the book as a whole


def sources():
    """Map each page and each module to its text."""
    paths = [
        *(ROOT / "book").rglob("*.md"),
        *(ROOT / "book").rglob("*.ipynb"),
        ROOT / "book" / "claims.yml",
        *ROOT.glob("bnlib/**/*.py"),
    ]
    return {
        p.relative_to(ROOT).as_posix(): p.read_text("utf8")
        for p in paths
        if "checkpoint" not in str(p)
    }


def missing_pages(entries, pages):
    """Compare the table of contents with the pages that exist."""
    return sorted(set(entries) ^ {page.rsplit(".", 1)[0] for page in pages})


def citation_faults(texts, bibliography):
    """Compare the cited keys with the entries of the bibliography."""
    used = {
        key.strip()
        for text in texts
        for keys in re.findall(r"\{?:?cite(?::\w+)?[}:]`([^`]+)`", text)
        for key in re.sub(r".*<(.*)>", r"\1", keys).split(",")
    }
    return sorted(used ^ set(re.findall(r"^@\w+\{\s*([^,\s]+)", bibliography, re.MULTILINE)))


def planned_but_written(text, titles):
    """Find chapters that a page calls planned, though they exist."""
    plain = " ".join(re.sub(r'\\n"?|"', " ", text).replace(",", " ").split())
    named = re.findall(r"\bplanned\b[^.]{0,40}?\*([^*]+)\*", plain)
    return [name for name in named if name.strip() in titles]


def paths_of_a_machine(text):
    """Find absolute paths that exist on somebody's computer only."""
    folders = "|".join(["home", "Users", "root", "work", "tmp"])
    return re.findall(rf"(?<![\w.:/$}}~<-])/(?:{folders})/[\w.-]+|\b[A-Z]:\\\\?Users\b", text)


def test_every_page_is_in_the_table_of_contents():
    pages = [name for name in sources() if re.match(r"book/(?!_).*\.(md|ipynb)$", name)]
    assert missing_pages(toc_entries(), pages) == []


def test_every_page_has_a_description():
    for name, text in sources().items():
        if name.endswith(".md") and "/_" not in name:
            head = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
            assert head.get("myst", {}).get("html_meta", {}).get("description"), name


def test_examples_in_pages_run_as_copied():
    pages = {name: text for name, text in sources().items() if name.endswith(".md")}
    pages = {name: re.sub("^```.*", "", text, flags=re.M) for name, text in pages.items()}
    tests = [doctest.DocTestParser().get_doctest(t, {}, n, n, 0) for n, t in pages.items()]
    shown = {test.name for test in tests if test.examples}
    assert shown >= {"book/how_we_measure.md", "book/claims.md"}
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0, test.name


def test_style_sheet_has_the_dark_colours_of_the_library():
    from bnlib.plots import DARK_COLORS

    sheet = (ROOT / "book" / "_static" / "bn.css").read_text("utf8")
    found = dict(re.findall(r"--bn-(\w+): (#\w+);", sheet))
    assert found == DARK_COLORS


def test_citations_and_bibliography_agree():
    assert (
        citation_faults(sources().values(), (ROOT / "book" / "references.bib").read_text("utf8"))
        == []
    )


def test_no_chapter_is_called_planned_that_is_written():
    chapters = [nbformat.read(ROOT / f"{entry}.ipynb", as_version=4) for entry in CHAPTERS]
    titles = {re.search(r"^# (.+)$", prose(c), re.MULTILINE).group(1) for c in chapters}
    for name, text in sources().items():
        if name.startswith("book/"):
            assert planned_but_written(text, titles) == [], name


def test_no_committed_file_names_a_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0")[:-1]:
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            assert paths_of_a_machine(path.read_text("utf8", errors="ignore")) == [], name


def test_whole_book_rules_can_fail():
    assert missing_pages(["book/a"], ["book/a.md", "book/b.ipynb"]) == ["book/b"]
    assert missing_pages(["book/a", "book/c"], ["book/a.md"]) == ["book/c"]
    bibliography = "@article{known,\n}\n@book{idle,\n}"
    texts = ["{cite:t}`known`", "See :cite:p:`gone`."]
    assert citation_faults(texts, bibliography) == ["gone", "idle"]
    assert citation_faults(["{cite:p}`known,idle`"], bibliography) == []
    text = 'the planned chapter *Folding and\\n",\n    "deployment*, planned: *More*'
    assert planned_but_written(text, {"Folding and deployment"}) == ["Folding and deployment"]
    assert planned_but_written("*Folding and deployment* is not planned", {"Folding"}) == []
    for path in ("/home/me/x.py", "see /Users/me", '"/tmp/x"', r"C:\Users\me"):
        assert paths_of_a_machine(path)
    assert paths_of_a_machine("https://a.org/home/x and book/tmp/x") == []


def test_every_entry_of_the_bibliography_is_whole():
    """A blank line separates entries; each has what its label is made of."""
    _, *entries = (ROOT / "book" / "references.bib").read_text("utf8").strip().split("\n\n")
    for entry in entries:
        assert re.fullmatch(r"@\w+\{[^{}]+,\n(  \w+ += .*\n)+\}", entry), entry
        for field in ("author", "title", "year"):
            assert re.search(rf"^  {field} += ", entry, re.MULTILINE), entry


def test_every_column_of_a_table_has_a_name():
    for name, text in sources().items():
        assert not re.search(r"^\|(.*\|)? *\|.*\n\|[ :|-]+\|$", text, re.MULTILINE), name
