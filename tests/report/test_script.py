"""The modules of the page's script are what they say, so that they can share one scope."""

import re
from collections import Counter
from graphlib import CycleError
from itertools import pairwise
from pathlib import Path

import pytest

from audit.report import render
from audit.report.script import joined

IMPORT = re.compile(r'^import \{([^{}]*)\} from "([^"]*)";$', re.MULTILINE)
DECLARED = re.compile(
    r"^(export )?(?:async )?(?:function\*?|const|let|class|var) ([^\s(=;]+)", re.MULTILINE
)
PAGE_TESTS = Path(__file__).parents[1] / "page"


def sources() -> dict[str, str]:
    environment = render.environment()
    assert environment.loader is not None
    return {
        name: environment.loader.get_source(environment, name)[0]
        for name in environment.list_templates(extensions=["js"])
    }


def imports(text: str) -> dict[str, list[str]]:
    """Return the names that a module imports, by the file it imports them from."""
    return {file: re.findall(r"[\w$]+", names) for names, file in IMPORT.findall(text)}


def exports(text: str) -> list[str]:
    return [name for exported, name in DECLARED.findall(text) if exported]


@pytest.mark.parametrize("module", sources())
def test_an_import_names_what_another_module_exports(module: str) -> None:
    modules = sources()
    for file, names in imports(modules[module]).items():
        assert file.removeprefix("./") in modules
        assert set(names) <= set(exports(modules[file.removeprefix("./")]))


def test_whatever_is_exported_is_imported_by_a_module_or_a_test() -> None:
    modules = sources()
    tests = (file.read_text(encoding="utf-8") for file in sorted(PAGE_TESTS.glob("*.test.mjs")))
    taken = {
        (Path(file).name, name)
        for text in (*modules.values(), *tests)
        for file, names in imports(text).items()
        for name in names
    }
    assert {(file, name) for file, text in modules.items() for name in exports(text)} <= taken


def test_no_name_is_declared_twice() -> None:
    names = Counter(name for text in sources().values() for _, name in DECLARED.findall(text))
    assert all(re.fullmatch(r"[\w$]+", name) for name in names)  # one name in each declaration
    assert [name for name, times in names.items() if times > 1] == []


def test_the_script_is_the_modules_without_imports_and_exports() -> None:
    modules, script = sources(), joined(sources())
    assert not re.search(r"^\s*(?:import|export)\b", script, re.MULTILINE)
    for text in modules.values():
        kept = re.sub(r"^import \{[^{}]*\} from .*\n", "", text, flags=re.MULTILINE)
        assert kept.replace("\nexport ", "\n") in script
    assert script == joined(modules)


def test_a_module_stands_after_those_it_imports_from_and_the_one_that_starts_at_the_end() -> None:
    modules, script = sources(), joined(sources())
    place = {name: script.index(text.split("\n", 1)[0]) for name, text in modules.items()}
    assert len(set(place.values())) == len(modules)
    for name, text in modules.items():
        for file in imports(text):
            assert place[file.removeprefix("./")] < place[name]
    assert max(place, key=lambda name: place[name]) == "start.js"
    assert needed("start.js", modules) == set(modules)


def needed(name: str, modules: dict[str, str]) -> set[str]:
    """Return a module with all that it imports from, near and far."""
    of_others = (needed(file.removeprefix("./"), modules) for file in imports(modules[name]))
    return {name}.union(*of_others)


def test_the_order_is_that_of_the_imports() -> None:
    script = joined(
        {
            "a.js": 'import {\n  b,\n  c,\n} from "./b.js";\nb(c);\n',
            "b.js": 'import { d } from "./d.js";\nexport const b = d;\nexport let c = 1;\n',
            "d.js": "export async function* d() {}\nexport class E {}\n",
        }
    )
    wanted = ("async function* d() {}", "class E {}", "const b = d;", "let c = 1;", "b(c);")
    assert all(script.index(one) < script.index(other) for one, other in pairwise(wanted))
    assert "import" not in script
    assert "export" not in script


def test_modules_that_import_each_other_are_refused() -> None:
    with pytest.raises(CycleError):
        joined({"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'})


def test_an_import_from_nowhere_is_refused() -> None:
    with pytest.raises(KeyError, match=r"gone\.js"):
        joined({"a.js": 'import { b } from "./gone.js";\n'})


@pytest.mark.parametrize(
    "statement",
    [
        'import b from "./b.js";',
        'import * as b from "./b.js";',
        'import { b as c } from "./b.js";',
        'import "./b.js";',
        'import { b } from "elsewhere";',
        "export default 1;",
        "export { b };",
        'export * from "./b.js";',
    ],
)
def test_a_form_that_cannot_be_joined_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match="not a form that can be joined"):
        joined({"a.js": f"{statement}\n", "b.js": "export const b = 1;\n"})
