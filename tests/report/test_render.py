"""The page needs nothing else, admits nothing else, and nothing in a run is markup."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from jinja2 import UndefinedError, nodes

from audit.report import render
from tests.report.parts import render_html

if TYPE_CHECKING:
    from tests.report.conftest import Made


class Elements(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(html: str) -> Elements:
    page = Elements()
    page.feed(html)
    page.close()
    return page


def test_the_policy_admits_the_page_and_nothing_else(made: "Made") -> None:
    html = render_html(made.shop(1))
    (policy,) = (
        attributes["content"]
        for tag, attributes in parsed(html).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    for pattern, directive in ((r"<style>(.*?)</style>", "style"), (r"<script>(.*?)</", "script")):
        (text,) = re.findall(pattern, html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive}-src 'sha256-{digest}'" in policy
    for directive in ("default-src", "connect-src", "base-uri", "form-action"):
        assert f"{directive} 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_and_nothing_is_styled_or_scripted_inline(made: "Made") -> None:
    for tag, attributes in parsed(render_html(made.hostile())).tags:
        assert "src" not in attributes
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
        assert tag not in {"img", "iframe", "object", "base", "form"}


def test_the_template_computes_nothing_and_lets_nothing_be_missing_or_unescaped() -> None:
    environment = render.environment()
    assert environment.autoescape is True
    with pytest.raises(UndefinedError):
        environment.from_string("{{ nobody.said }}").render()
    for name in environment.list_templates(extensions=["j2"]):
        assert environment.loader is not None
        template = environment.parse(environment.loader.get_source(environment, name)[0])
        found = {type(node).__name__ for node in template.find_all(nodes.Node)}
        arithmetic = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow", "Slice"}
        assert not found & (arithmetic | {"Assign", "ScopedEvalContextModifier"})
        assert {one.name for one in template.find_all(nodes.Filter)} <= {"length", "join"}


def test_names_stay_text(made: "Made") -> None:
    html = render_html(made.hostile())
    page = parsed(html)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    text = "".join(page.texts)
    for name in made.hostile_texts[:4]:
        assert name in text
    assert "49" not in text.split("Scope")[1].split("Planes")[0]


def test_the_script_writes_no_markup(made: "Made") -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", render_html(made.shop(1)), re.DOTALL)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
    ):
        assert way not in script


def test_an_empty_run_renders(made: "Made") -> None:
    assert "Nothing was in scope" in render_html(made.assemble([], [], made.shop_decides))
