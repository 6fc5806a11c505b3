"""Names and texts use the terms of the field; see docs/explanation/glossary.md and CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "connectsoft_obs"
TESTS = ROOT / "tests"

BANNED_WORDS = {
    "anew", "everybody", "found", "hush", "ledger", "manner", "manners", "nobody", "ours", "pile", "piles", "promise",
    "promised", "promises", "said", "settle", "settled", "settles", "settling", "somebody", "theirs", "told", "twin",
    "twins", "vital", "vitals", "whoever", "whole",
}  # fmt: skip
"""Words that no identifier contains."""

ALLOWED_IDENTIFIERS = frozenset({"NOT_FOUND", "not_found", "test_unknown_service_is_not_found"})
"""HTTP's own term for status 404."""

BANNED_TEXT = re.compile(
    r"\b(anew|everybody|hush|ledgers?|manners?|nobody|of ours|of theirs|piles?|promises?|promised|said|settle[ds]?|settling|"
    r"somebody|told|twins?|vitals?|whoever)\b",
    re.IGNORECASE,
)
"""Words that no docstring, comment, message or page contains."""

INLINE_CODE = re.compile(r"`[^`]*`")
"""The changelog quotes names that were replaced."""

MAX_TEST_NAME = 79


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that a module defines: modules, classes, functions, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def words_of(identifier: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """Comments and string literals."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def test_identifiers_use_terms_of_the_field() -> None:
    problems = []
    for path in python_files(PACKAGE, TESTS, ROOT / "examples", ROOT / "docs"):
        where = path.relative_to(ROOT)
        problems += [str(where)] if words_of(path.stem) & BANNED_WORDS else []
        for line, name in defined_names(ast.parse(path.read_text(encoding="utf-8"))):
            if words_of(name) & BANNED_WORDS and name not in ALLOWED_IDENTIFIERS:
                problems.append(f"{where}:{line} {name}")
    assert problems == []


def test_package_texts_are_plain_technical_english() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line} {text[:80]!r}"
        for path in python_files(PACKAGE, TESTS, ROOT / "examples")
        if path != Path(__file__)
        for line, text in texts_of(path.read_text(encoding="utf-8"))
        if BANNED_TEXT.search(text)
    ]
    assert problems == []


def test_pages_are_plain_technical_english() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    pages = [page for page in pages if "_build" not in page.parts]
    problems = [
        f"{page.relative_to(ROOT)}:{number} {line[:80]}"
        for page in pages
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if BANNED_TEXT.search(INLINE_CODE.sub("", line) if page.name == "CHANGELOG.md" else line)
    ]
    assert problems == []


def test_no_exported_name_hides_a_submodule() -> None:
    """`import package.name as x` would give the function; mocks and documentation tools would miss the module."""
    hidden = []
    for init in PACKAGE.rglob("__init__.py"):
        modules = {path.stem for path in init.parent.glob("*.py")} | {
            path.parent.name for path in init.parent.glob("*/__init__.py")
        }
        tree = ast.parse(init.read_text(encoding="utf-8"))
        exported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                package = init.parent.relative_to(ROOT).as_posix().replace("/", ".")
                exported |= {alias.asname or alias.name for alias in node.names if node.module != package}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node in tree.body:
                exported.add(node.name)
        hidden += [f"{init.parent.relative_to(ROOT)}: {name}" for name in sorted(exported & modules)]
    assert hidden == []


def parameters_of(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Parameters of a function, or of the constructor of a class, with the fields of a dataclass."""
    fields: set[str] = set()
    function: ast.stmt | None = node
    if isinstance(node, ast.ClassDef):
        fields = {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        function = next((item for item in node.body if getattr(item, "name", "") == "__init__"), None)
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return fields
    arguments = function.args
    variadic = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return fields | {item.arg for item in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *variadic]}


def test_documented_arguments_are_parameters() -> None:
    problems = []
    for path in python_files(PACKAGE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            section = (ast.get_docstring(node) or "").partition("Args:\n")[2].partition("\n\n")[0]
            listed = re.findall(r"^    \*{0,2}(\w+(?:, \w+)*):", section, re.MULTILINE)
            names = {name for names in listed for name in names.split(", ")}
            problems += [f"{path.relative_to(ROOT)} {node.name}: {name}" for name in names - parameters_of(node)]
    assert problems == []


def test_test_names_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)} {node.name}"
        for path in python_files(TESTS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > MAX_TEST_NAME
    ]
    assert long == []


def test_modules_have_at_most_300_lines() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in python_files(PACKAGE)}
    assert {path.name for path, count in lines.items() if count > 300} == {"fields.py"}
