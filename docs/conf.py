"""Sphinx: Markdown pages by hand, the reference from docstrings."""

import ast
import importlib
import inspect
import pkgutil
import re
import types
from functools import cache
from pathlib import Path

from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

import blockwise

project, author, copyright = "blockwise", "the blockwise authors", "the blockwise authors"
version = release = blockwise.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
html_theme = "furo"
html_title = f"blockwise {version}"
exclude_patterns = ["_build"]
default_role = "code"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "ignore-module-all": True, "exclude-members": "model_config", "member-order": "bysource"}
autodoc_typehints = "signature"
numpydoc_show_class_members = False
toc_object_entries = False

REFERENCE = Path(__file__).parent / "reference" / "generated"
PACKAGES = ("blockwise", "tasks")


def public_modules() -> list[str]:
    """Every module that can be imported and has no underscore in its path."""
    found = [p for p in PACKAGES]
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        found += [m.name for m in pkgutil.walk_packages(folder, f"{package}.") if "._" not in m.name]
    return sorted(found)


def write_reference() -> None:
    """One page per module and a table of contents, replaced only where they changed."""
    names = public_modules()
    pages = {n: f"{n}\n{'=' * len(n)}\n\n.. automodule:: {n}\n" for n in names}
    pages["index"] = "Modules\n=======\n\n.. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {n}\n" for n in names)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for old in REFERENCE.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        page = REFERENCE / f"{name}.rst"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def prepare_docstring(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make plain docstrings safe reStructuredText: indented pictures become literal blocks, `|` and `*` in prose are text."""
    sections = any(re.fullmatch(r"-{3,}", line.strip()) for line in lines)
    out: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("   ") and not sections
        if indented and not literal and (not out or not out[-1].strip()):
            out += ["::", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        out.append(line if literal else escaped(line))
    lines[:] = out


def escaped(line: str) -> str:
    """`line` with `|`, `*` and a name's last `_` escaped outside of backticks."""
    parts = re.split(r"(`+[^`]*`+)", line)
    parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?=\W|$))", r"\\\1", p) if not p.lstrip().startswith("* ") else p for p in parts[::2]]
    return "".join(parts)


def skip_aliases(app: object, what: str, name: str, obj: object, skip: bool, options: object) -> bool:
    """Leave out names of array types: they have no signature, and autodoc stumbles over looking for one."""
    return skip or isinstance(obj, types.GenericAlias)


class ImportedNames(SphinxPostTransform):
    """Short names in annotations lead to what their module imports by them: several sciences have a Job."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: object) -> None:
        for node in self.document.findall(pending_xref):
            module, name = node.get("py:module"), node.get("reftarget", "")
            if module and "." not in name and name in (imported := imports_of(module)):
                node["reftarget"] = imported[name]


@cache
def imports_of(module: str) -> dict[str, str]:
    """Where the names that a module imports from ours are defined, those under TYPE_CHECKING too."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith(PACKAGES)]
    names = [(a.asname or a.name, getattr(importlib.import_module(str(n.module)), a.name, None)) for n in found for a in n.names]
    return {name: f"{value.__module__}.{value.__qualname__}" for name, value in names if isinstance(value, type)}


def setup(app: object) -> None:
    write_reference()
    app.add_post_transform(ImportedNames)
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
