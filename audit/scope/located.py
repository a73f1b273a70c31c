"""YAML read from nodes, not from loaded values, so that a complaint names line and column."""

from typing import NoReturn

import yaml

from audit.errors import ScopeError
from audit.model.selectors import Selector
from audit.scope import selectors
from audit.scope.selectors import SelectorError


def compose(text: str, name: str) -> yaml.Node | None:
    """Return the root of `text`, the YAML of the file called `name`; None when it is empty."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or "cannot be read"
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ScopeError(f"{name}{where}: not YAML: {problem}") from None
    except RecursionError:
        raise ScopeError(f"{name}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML's scanner fails in its own ways on what is no text at all.
        raise ScopeError(f"{name}: not YAML: {' '.join(str(error).split())}") from None


def fail(name: str, message: str, node: yaml.Node) -> NoReturn:
    """Raise ScopeError: what is wrong, and where in the file called `name`."""
    mark = node.start_mark
    raise ScopeError(f"{name}, line {mark.line + 1}, column {mark.column + 1}: {message}") from None


def selector(name: str, node: yaml.MappingNode) -> Selector:
    """Return the label selector that a mapping spells as Kubernetes does."""
    if repeated := _repeated_key(node):
        fail(name, f"{repeated.value!r} is given twice", repeated)
    loader = yaml.SafeLoader("")
    try:
        return selectors.from_object(loader.construct_document(node))
    except SelectorError as error:
        fail(name, str(error), _descend(node, error.path))
    except yaml.MarkedYAMLError as error:
        fail(name, f"not a selector: {error.problem}", node)
    # What a tag promises and a value does not keep, as of a day that is none.
    except (
        *(ValueError, OverflowError, RecursionError),
        *(LookupError, TypeError, AttributeError),
    ) as error:
        fail(name, f"not a selector: {error}", node)
    finally:
        loader.dispose()


def _repeated_key(root: yaml.Node) -> yaml.Node | None:
    """Return a key that its mapping already has, of which YAML would silently keep the last."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode) or id(node) in visited:
            continue
        visited.add(id(node))  # an alias may lead back to its own parent
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                return key
            keys |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
            waiting.append(value)
    return None


def _descend(node: yaml.Node, path: selectors.Path) -> yaml.Node:
    """Return the node `path` leads to, or the last one on the way when it leads nowhere."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            children = [value for key, value in node.value if key.value == step]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            children = node.value[step : step + 1]
        else:
            children = []
        if not children:
            break
        node = children[-1]
    return node
