"""Class hierarchies (YOLO9000): trees of classes, `tree=` files, and maps between class numbers, `map=` files.

A tree file has one class a line, its name and the line of its parent (from 0; -1 for a root). Lines that follow each
other with the same parent are a *group*: the network gives the probability of each class *given its parent*, a softmax
over each group. The probability of a class is the product along its path to the root.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkbn.errors import CfgError
from darkbn.files import find_file
from darkbn.signature import Array

#: A truth of this value is no truth (Darknet's SECRET_NUM).
SECRET_NUM = -1234.0


#: Probability from which a class of a hierarchy is believed, unless told otherwise.
HIER = 0.5

#: Coordinate from which a truth has a class but no box.
CLASS_ONLY = 100000.0


@dataclass(frozen=True, eq=False)
class ClassTree:
    """Classes and their parents.

    Attributes:
        names: of the classes, as the file has them (9k.tree: WordNet identifiers).
        parent: int32 (n,), the parent of each class, -1 for roots.
        group: int32 (n,), the group that each class belongs to.
        child: int32 (n,), the group of its children, -1 for leaves.
        group_offset, group_size: int32 (groups,), first class and number of classes of each group.
    """

    names: tuple[str, ...]
    parent: Array
    group: Array
    child: Array
    group_offset: Array
    group_size: Array

    @property
    def n(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.group_size)

    @property
    def leaf(self) -> Array:
        """Whether each class has no children, bool (n,)."""
        return np.asarray(self.child < 0)

    @functools.cached_property
    def paths(self) -> Array:
        """int32 (n, 3): parent, first class and number of classes of the own group; what kernels take."""
        columns = (self.parent, self.group_offset[self.group], self.group_size[self.group])
        return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.int32)

    @functools.cached_property
    def _levels(self) -> list[Array]:
        """The classes of each depth below the roots."""
        depth = np.zeros(self.n, dtype=np.int64)
        for index, parent in enumerate(self.parent):  # parents come first
            depth[index] = depth[parent] + 1 if parent >= 0 else 0
        return [np.flatnonzero(depth == level) for level in range(1, int(depth.max(initial=0)) + 1)]

    def hierarchy_predictions(self, probabilities: Array, only_leaves: bool = False) -> Array:
        """Probabilities of the classes from those given their parents (Darknet's hierarchy_predictions).

        Args:
            probabilities: (..., n), each given its parent.
            only_leaves: 0 for classes that have children.

        Returns:
            A new array (..., n).
        """
        result = probabilities.copy()
        for level in self._levels:
            result[..., level] *= result[..., self.parent[level]]
        if only_leaves:
            result[..., ~self.leaf] = 0
        return result

    def hierarchy_top_prediction(self, probabilities: Array, threshold: float) -> int:
        """The most special class that is still likely: from the roots down along the most probable child, as long as
        the class's probability exceeds the threshold; at least a root (Darknet's hierarchy_top_prediction).

        Args:
            probabilities: (n,), of the classes (not given their parents).
            threshold: see above.
        """
        found, group = -1, 0
        while group >= 0:
            first = int(self.group_offset[group])
            best = first + int(probabilities[first : first + int(self.group_size[group])].argmax())
            likely = probabilities[best] > threshold
            if found >= 0 and not likely:
                break
            found, group = best, int(self.child[best]) if likely else -1
        return found

    def fill_hierarchy(self, truth: Array) -> None:
        """Complete labels in place: parents of labelled classes become 1, groups without a label SECRET_NUM, which
        means that they have no truth (Darknet's fill_hierarchy).

        Args:
            truth: (..., n), 0 or more for each class.
        """
        rows = truth.reshape(-1, self.n)
        if not np.shares_memory(rows, truth):
            raise ValueError("truth must be contiguous")
        for row in rows:
            for index in np.flatnonzero(row):
                parent = int(self.parent[index])
                while parent >= 0:
                    row[parent] = 1
                    parent = int(self.parent[parent])
            labelled = np.add.reduceat(row != 0, self.group_offset) > 0
            row[~labelled[self.group]] = SECRET_NUM


def read_tree(path: str | os.PathLike[str]) -> ClassTree:
    """Read a tree file.

    Raises:
        CfgError: it cannot be read, or a line that cannot be: no parent, a parent that does not come before, children
            of a parent in several places.
    """
    names: list[str] = []
    parents: list[int] = []
    offsets: list[int] = []
    child: dict[int, int] = {}
    for line, text in _lines(path):
        words = text.split()
        try:
            parent = int(words[1]) if len(words) > 1 else -1
        except ValueError:
            raise CfgError(f"expected NAME PARENT, found {text!r}", file=os.fspath(path), line=line) from None
        if not -1 <= parent < len(names):
            problem = f"parent {parent} of {words[0]} must be -1 or come before: 0 to {len(names) - 1}"
            raise CfgError(problem, file=os.fspath(path), line=line)
        if not parents or parent != parents[-1]:
            if parent in child:
                owner = f"of {names[parent]}" if parent >= 0 else "without parent"
                problem = f"{words[0]}: the classes {owner} must follow each other"
                raise CfgError(problem, file=os.fspath(path), line=line)
            child[parent] = len(offsets)
            offsets.append(len(names))
        names.append(words[0])
        parents.append(parent)
    if not names:
        raise CfgError("no classes in this file", file=os.fspath(path))
    sizes = np.diff([*offsets, len(names)])
    return ClassTree(
        names=tuple(names),
        parent=np.array(parents, dtype=np.int32),
        group=np.repeat(np.arange(len(offsets)), sizes).astype(np.int32),
        child=np.array([child.get(index, -1) for index in range(len(names))], dtype=np.int32),
        group_offset=np.array(offsets, dtype=np.int32),
        group_size=sizes.astype(np.int32),
    )


def read_map(path: str | os.PathLike[str]) -> Array:
    """Read a map file: line i has the class that class i becomes. Returns int32 (classes,).

    Raises CfgError when it cannot be read or a line is no number.
    """
    numbers = []
    for line, text in _lines(path):
        try:
            numbers.append(int(text))
        except ValueError:
            raise CfgError(f"expected a class number, found {text!r}", file=os.fspath(path), line=line) from None
    return np.array(numbers, dtype=np.int32)


def _lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise CfgError(f"cannot be read: {error.strerror or error}", file=os.fspath(path)) from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def tree_of(context: Any, value: str, classes: int) -> ClassTree:
    """The tree that a layer's `tree=` names.

    Raises CfgError when there is no such file or the tree has another number of classes.
    """
    tree = read_tree(_side_file(context, value, "tree"))
    if tree.n != classes:
        raise context.error(f"{value} has {tree.n} classes, the layer has {classes}", key="tree")
    return tree


def map_of(context: Any, value: str, classes: int) -> Array | None:
    """The map that a layer's `map=` names; None for no name.

    Raises CfgError when there is no such file or it maps to classes that do not exist.
    """
    if not value:
        return None
    numbers = read_map(_side_file(context, value, "map"))
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        problem = f"{value} maps class {wrong[0]} to {numbers[wrong[0]]}; there are 0 to {classes - 1}"
        raise context.error(problem, key="map")
    return numbers


def _side_file(context: Any, value: str, key: str) -> Path:
    cfg = context.section.file if context.section else None
    near = cfg if cfg and Path(cfg).is_file() else None
    found = find_file(value, near)
    if found is None:
        where = "the current folder" + (f", that of {near} and those above it" if near else "")
        raise context.error(f"no file {value} in {where}", key=key)
    return found
