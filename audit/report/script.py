"""The page's script: the ES modules of the templates, joined into one.

A page that is one file has none to import from. In it all modules share one scope: each stands
after those that it imports from, without its import statements and without the word `export`.
"""

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter

_IMPORT = re.compile(
    r'^import \{\s*[\w$]+(?:,\s*[\w$]+)*,?\s*\} from "\./([\w-]+\.js)";\n', re.MULTILINE
)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def joined(modules: Mapping[str, str]) -> str:
    """Return modules, by their file names, as one script. They must not import in a circle.

    It knows two forms: `import { a, b } from "./x.js";`, and `export` before a declaration.
    """
    order = TopologicalSorter({name: _IMPORT.findall(text) for name, text in modules.items()})
    parts = "\n".join(
        _EXPORT.sub("", _IMPORT.sub("", modules[name])) for name in order.static_order()
    )
    if other := _OTHER.search(parts):
        raise ValueError(f"not a form that can be joined: {other[0]}")
    return f'"use strict";\n(() => {{\n{parts}\n}})();'
