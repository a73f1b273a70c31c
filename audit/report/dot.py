"""Paths as a graph in DOT, and as the picture that Graphviz draws of it."""

from collections.abc import Sequence

from graphviz import Digraph, ExecutableNotFound, escape, pipe_string

from audit.errors import UsageError
from audit.report import printing
from audit.report.who import Answer, Path

_STYLES = {
    Answer.YES: {"color": "#1a7f37"},
    Answer.PARTLY: {"color": "#9a6700", "style": "dashed"},
    Answer.NO: {"color": "#cf222e", "arrowhead": "tee"},
    Answer.UNPROVEN: {"color": "#6e7781", "style": "dotted"},
}
"""How an edge looks: told apart without colour too."""


def text(paths: Sequence[Path]) -> str:
    """Return a graph of the ends, with an edge for each path: its ports, and what stops it."""
    graph = Digraph(graph_attr={"rankdir": "LR"}, node_attr={"shape": "box"})
    ends = dict.fromkeys(end for path in paths for end in (path.src, path.dst))
    # Numbers are their names: in a name with a colon what follows would be a port of the node.
    names = {end: f"n{number}" for number, end in enumerate(ends)}
    for end, name in names.items():
        graph.node(name, label=_label(end))
    for path in paths:
        label = r"\n".join(map(_label, (", ".join(path.ports), *path.because)))
        ends_of_edge = names[path.src], names[path.dst]
        graph.edge(*ends_of_edge, label=label, **_STYLES[path.answer])
    return str(graph.source).expandtabs(2)


def svg(paths: Sequence[Path]) -> str:
    """Return the graph as SVG, drawn by Graphviz's program `dot`; UsageError where it is not."""
    try:
        return str(pipe_string("dot", "svg", text(paths), encoding="utf-8", quiet=True))
    except ExecutableNotFound:
        sentence = "-o svg is drawn by Graphviz, which is not here: install it, or take -o dot"
        raise UsageError(sentence) from None


def _label(name: str) -> str:
    """Return a text that Graphviz writes as it is."""
    return str(escape(printing.line(name)))
