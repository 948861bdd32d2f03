"""The record of duplicates, and joining links to components."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.folds import Duplicates
from kaggle_kit.folds.duplicates import connected

FOUND = Duplicates(
    "near",
    groups=(
        (("test", "1"), ("train", "a"), ("train", "b")),
        (("test", "2"), ("test", "3")),
        (("test", "4"), ("train", "c")),
        (("train", "d"), ("train", "e")),
    ),
)


def test_train_groups_leave_out_test_images() -> None:
    assert FOUND.train_groups() == [("a", "b"), ("d", "e")]


def test_train_images_in_the_test_set() -> None:
    assert FOUND.in_test() == [(("a", "b"), ("1",)), (("c",), ("4",))]


def test_different_labels_whatever_their_order() -> None:
    labels = {"a": ("x", "y"), "b": ("y", "x"), "c": ("x",), "d": ("x",), "e": ()}
    assert FOUND.different_labels(labels) == [("d", "e")]


def test_components_by_example() -> None:
    assert connected(6, [(4, 1), (1, 5, 3)]).tolist() == [0, 1, 2, 1, 1, 1]
    assert connected(0, []).tolist() == []


@given(st.data(), st.integers(1, 25))
def test_components_are_those_of_scipy_and_numbered_by_first_node(data: st.DataObject, count: int) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    node = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(node, node), max_size=30))
    ours = connected(count, links)
    assert connected(count, reversed(links)).tolist() == ours.tolist()
    first, second = [link[0] for link in links], [link[1] for link in links]
    theirs = connected_components(coo_array((np.ones(len(links)), (first, second)), shape=(count, count)), directed=False)[1]
    assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == len(set(theirs.tolist())) == len(set(ours.tolist()))
    assert list(dict.fromkeys(ours.tolist())) == list(range(ours.max() + 1))
