"""Pages from the Jinja2 templates that lie beside the code that fills them in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .numbers import ARROW_TEXT, ARROWS, number

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent


def render(name: str, folder: Path = HERE, **values: object) -> Markup:
    """Fill in a template; all that is put in is escaped, unless it was rendered itself.

    Args:
        name: of the template's file.
        folder: where it lies. What it extends, imports or includes may lie beside it or beside this module.
        values: what it names; a name it needs and does not get is an error.
    """
    from markupsafe import Markup

    return Markup(_environment(folder).get_template(name).render(values))


@lru_cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # paths rather than package names: in ComfyUI's custom_nodes the package has none that can be imported
    loader = FileSystemLoader([folder, HERE])
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.globals |= {"ARROWS": ARROWS, "ARROW_TEXT": ARROW_TEXT}
    return made
