"""Every public name is documented: docstring with its sections, type hints, a runnable package."""

import doctest
import importlib
import inspect
import pathlib
import re
from itertools import pairwise

import pytest
from family_modules import FAMILY

from bnlib.nn.conversion import OURS

BOOK = pathlib.Path(__file__).parents[1] / "book"
PACKAGES = [
    "bnlib.functional",
    "bnlib.layers",
    "bnlib.datasets",
    "bnlib.conventions",
    "bnlib.measure",
    "bnlib.nn",
    "bnlib.plots",
    "bnlib.surgery",
    "bnlib.doctor",
]


def public():
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                yield pytest.param(value, id=f"{package}.{name}")


@pytest.mark.parametrize("value", list(public()))
def test_docstring(value):
    text = inspect.getdoc(value) or ""
    assert len(text.splitlines()[0]) > 10
    takes = [p for p in inspect.signature(value).parameters if p not in ("self", "args", "kwargs")]
    if inspect.isfunction(value):
        assert not takes or "Parameters\n---" in text
        returns = inspect.signature(value).return_annotation
        assert returns in (None, "None") or re.search("(Returns|Yields)\n---", text)


SECTIONS_WITH_TYPES = {"Parameters", "Attributes", "Returns", "Yields"}
ARRAY = re.compile(r"\barray|ndarray|of shape")
SHAPED = re.compile(r"\barray(_like)?( of (int|bool))?, (any shape|shape (?!$))")
HOLDS_ARRAYS = re.compile(r"(dict|mapping|sequence) of (str to )?array(_like)?(, optional)?$")


def types_without_shape(docstring):
    """List the types of arrays in a docstring that are not written as `array, shape (m, d)`."""
    lines = inspect.cleandoc(docstring).split("\n")
    section = ""
    for line, below in pairwise([*lines, ""]):
        section = line if set(below) == {"-"} else section
        typed = line.partition(" : ")[2] or line
        is_type = section in SECTIONS_WITH_TYPES and line[:1] not in ("", " ", "-")
        formed = SHAPED.search(typed) or HOLDS_ARRAYS.match(typed)
        if is_type and ARRAY.search(typed) and not formed:
            yield line


@pytest.mark.parametrize("package", ["functional", "layers", "measure", "plots"])
def test_shapes_in_docstrings_have_one_form(package):
    module = importlib.import_module(f"bnlib.{package}")
    wrong = []
    for name in module.__all__:
        value = getattr(module, name)
        own = filter(inspect.isfunction, vars(value).values()) if inspect.isclass(value) else ()
        if callable(value):
            for part in (value, *own):
                wrong += [(name, line) for line in types_without_shape(part.__doc__ or "")]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    ["x : ndarray, (m, d)", "x : array", "x : array_like of shape (k,)", "array, shape", "ndarray"],
)
def test_other_form_of_a_shape_is_found(line):
    section = "Parameters" if ":" in line else "Returns"
    form = "Do it.\n\n{0}\n-------\n{1}\n    The array."
    assert list(types_without_shape(form.format(section, line))) == [line]
    assert list(types_without_shape(form.format(section, "array, shape (m, d)"))) == []


def has_constructor_of_torch(value):
    constructor = value.__init__ if inspect.isclass(value) else value
    return getattr(constructor, "__module__", "").startswith("torch.")


@pytest.mark.parametrize("value", list(public()))
def test_type_hints(value):
    signature = inspect.signature(value)
    parameters = {} if has_constructor_of_torch(value) else signature.parameters
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
    if inspect.isfunction(value):
        assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("cls", OURS.values(), ids=lambda cls: cls.__name__)
def test_signature_of_a_drop_in_begins_with_that_of_torch(cls):
    [base] = [theirs for theirs, ours in OURS.items() if ours is cls]
    theirs, ours = (inspect.signature(c).parameters for c in (base, cls))
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)


def methods():
    """What the classes of bnlib define themselves or take from a base that is not public."""
    for case in public():
        (cls,) = case.values
        for base in cls.__mro__ if inspect.isclass(cls) else ():
            for name, value in vars(base).items() if base.__module__.startswith("bnlib") else ():
                if inspect.isfunction(value) and not name.startswith("_"):
                    yield pytest.param(cls, name, id=f"{case.id}.{name}")


@pytest.mark.parametrize(("cls", "name"), list(methods()))
def test_methods(cls, name):
    assert inspect.getdoc(getattr(cls, name))
    signature = inspect.signature(getattr(cls, name))
    hints = [p.annotation for p in [*signature.parameters.values()][1:]]
    assert inspect.Parameter.empty not in [*hints, signature.return_annotation]


def examples():
    for case in public():
        (value,) = case.values
        parts = [value, *(vars(value).values() if inspect.isclass(value) else ())]
        if any(">>>" in (getattr(part, "__doc__", None) or "") for part in parts):
            yield case


@pytest.mark.parametrize("value", list(examples()))
def test_examples_run_as_copied(value):
    """In the module of `value`, as pytest runs them, they find names that a reader has not."""
    for test in doctest.DocTestFinder().find(value, globs={}):
        results = doctest.DocTestRunner().run(test)  # it prints what went wrong
        assert not results.failed


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_its_place_on_an_api_page(package):
    pages = [page.read_text("utf8") for page in (BOOK / "api").glob("*.md")]
    place = re.compile(rf"^\.\. automodule:: {re.escape(package)}\n   :members:$", re.MULTILINE)
    assert sum(len(place.findall(page)) for page in pages) == 1  # it shows what is in __all__


@pytest.mark.parametrize("name", FAMILY)
def test_layer_that_torch_has_not_is_in_the_table_of_its_page(name):
    page = (BOOK / "api" / "nn.md").read_text("utf8")
    assert re.search(rf"^\| .*{{py:class}}`[^`]*<bnlib\.nn\.{name}>`", page, re.MULTILINE)


def linked_in_tables(page):
    """Find the full names of what the rows of the tables of a page link."""
    rows = re.findall(r"^\| .*", (BOOK / "api" / f"{page}.md").read_text("utf8"), re.MULTILINE)
    return set(re.findall(r"{py:\w+}`(?:~|[^`<]*<)(bnlib[\w.]+)>?`", "\n".join(rows)))


@pytest.mark.parametrize(
    "page", ["functional", "layers", "datasets", "exercises", "plots", "surgery", "nn"]
)
def test_tables_of_a_page_have_every_function_and_class(page):
    module = importlib.import_module(f"bnlib.{page}")
    named = {f"bnlib.{page}.{name}" for name in module.__all__ if callable(getattr(module, name))}
    assert named - {"bnlib.layers.Layer"} <= linked_in_tables(page)  # the text below its table


def test_every_experiment_is_in_the_table_of_its_page():
    folder = BOOK.parent / "bnlib" / "experiments"
    named = {f"bnlib.experiments.{path.stem}" for path in folder.glob("[!_]*.py")}
    assert named <= linked_in_tables("experiments")


@pytest.mark.parametrize("page", sorted((BOOK / "api").glob("[!i]*.md")), ids=lambda p: p.stem)
def test_every_api_page_links_a_chapter(page):
    chapters = {path.stem.replace("_", "-") for path in BOOK.glob("*.ipynb")}
    assert chapters & set(re.findall(r"{ref}`ch-([\w-]+)`", page.read_text("utf8")))


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_out(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)
