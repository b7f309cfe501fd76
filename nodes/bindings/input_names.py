"""A node's own input names in errors of the core, which speaks of its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ...portraittalk_core.errors import PortraitTalkError

OPTION_NAME = re.compile(r"`([a-z]\w*)`")


@contextmanager
def inputs_named(**inputs: str) -> Iterator[None]:
    """Replace names of options in errors by those of the inputs that they are here: "`start`" becomes "start_percent".

    Args:
        inputs: name of the input by that of the option; others have the same name.
    """
    try:
        yield
    except PortraitTalkError as error:
        text = OPTION_NAME.sub(lambda match: inputs.get(match[1], match[1]), str(error))
        raise (error if text == str(error) else type(error)(text)) from error.__cause__
