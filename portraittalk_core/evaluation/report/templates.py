"""Rendering of the Jinja2 templates that lie beside this code."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .numbers import ARROW_TEXT, ARROWS, number

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATE_FOLDER = Path(__file__).parent


def render(name: str, folder: Path = TEMPLATE_FOLDER, **values: object) -> Markup:
    """Render a template with escaped values; rendered markup stays as it is.

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
    loader = FileSystemLoader([folder, TEMPLATE_FOLDER])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.globals |= {"ARROWS": ARROWS, "ARROW_TEXT": ARROW_TEXT}
    return environment
