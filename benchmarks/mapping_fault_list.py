"""The faults that `mapping_faults.py` injects, one at a time, each with where it strikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mapping_changes import (
    Inject,
    backwards,
    by_order,
    cell,
    classes_reordered,
    columns,
    columns_by_position,
    columns_crossed,
    constant,
    cut,
    decoded,
    drawn_rows,
    earlier_test_set,
    everywhere,
    fold_table_remade,
    foreign,
    foreign_index,
    frame,
    in_pass,
    in_test_file,
    indices_lexical,
    inside_predictor,
    lexical,
    lost_batch,
    lost_row,
    natural,
    new_test_image,
    old_control,
    one_run_only,
    other_colours,
    other_crop,
    other_folds_model,
    other_folds_test,
    other_normalisation,
    other_test_set,
    padded_batch,
    renamed_ids,
    rolled,
    rows_moved,
    shuffled,
    slid,
    sort_order,
    sorted_header,
    stale_model,
    stem,
    text,
    trained_again,
    two_swapped,
    up,
    up_by_one,
    values,
    views_everywhere,
    views_of_logits,
    views_of_other_rows,
    with_padding,
    with_probs,
    within,
    without_last_batch,
    wrong_axis,
)

NAMED = ("label", "index", "labels")
NUMBERS = ("probability", "positive")
ALL = (*NAMED, *NUMBERS)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        before_blend: whether it strikes the runs, so that the submission is blended from what is wrong.
        forms: the submission forms that it can strike.
    """

    name: str
    inject: Inject
    before_blend: bool
    forms: tuple[str, ...] = ALL


FAULTS: tuple[Fault, ...] = (
    # The class list of the model, hence of everything that it says.
    Fault("two classes swapped", everywhere(two_swapped), True),
    Fault("lexical for the competition's order", everywhere(lambda scene: columns(scene, sorted(scene.classes.names))), True),
    Fault("natural for the competition's order", everywhere(lambda scene: columns(scene, natural(scene.classes.names))), True),
    Fault("classes reversed", everywhere(lambda scene: columns(scene, scene.classes.names[::-1])), True),
    Fault("classes shifted by one", everywhere(rolled), True),
    Fault("one class missing, those behind it slide", everywhere(constant(slid)), True),
    Fault("two classes swapped in one fold", everywhere(two_swapped, run=0, fold=1), True),
    Fault("columns of one fold permuted", everywhere(shuffled, run=0, fold=1), True),
    Fault("one run of the blend permuted", everywhere(shuffled, run=0), True),
    # The test pass.
    Fault("two classes swapped in the test pass", in_pass(two_swapped), True),
    Fault("lexical order in the test pass", in_pass(lambda scene: columns(scene, sorted(scene.classes.names))), True),
    Fault("columns of one fold permuted in the test pass", in_pass(shuffled, run=0, fold=1), True),
    Fault("ids shifted by one row in the pass", in_pass(constant(lambda probs: np.roll(probs, 1, axis=0))), True),
    Fault("rows of the pass in reverse order", in_pass(constant(lambda probs: probs[::-1])), True),
    Fault("test loader shuffles", in_pass(drawn_rows), True),
    Fault("test loader shuffles in one fold", in_pass(drawn_rows, run=0, fold=2), True),
    Fault("last batch lost, rows before it written twice", in_pass(constant(padded_batch)), True),
    Fault("normalisation of another model", in_pass(constant(other_normalisation)), True),
    Fault("BGR for RGB", in_pass(constant(other_colours)), True),
    Fault("another resize at test time", in_pass(constant(other_crop)), True),
    Fault("logits of views multiplied", in_pass(constant(views_of_logits)), True),
    Fault("views undone wrongly in the test pass", in_pass(constant(views_of_other_rows)), True),
    Fault("views undone wrongly in both passes", views_everywhere(views_of_other_rows), True),
    # Between the pass and the blend.
    Fault("test file: ids shifted by one row", in_test_file(with_probs(lambda probs: np.roll(probs, 1, axis=0))), True),
    Fault("test file: rows sorted another way", in_test_file(with_probs(lambda probs: probs[::-1])), True),
    Fault(
        "test file of one fold: columns permuted",
        lambda scene: in_test_file(with_probs(shuffled(scene)), run=0, fold=0)(scene),
        True,
    ),
    Fault("test file: rows of the last batch lost", in_test_file(lost_batch), True),
    Fault("test file: another test set", in_test_file(other_test_set), True),
    Fault("test file: an earlier test set with the same ids", in_test_file(earlier_test_set), True),
    Fault("test file of fold 1 in the place of fold 0's", other_folds_test, True),
    Fault("stale checkpoint of another class list", stale_model, True),
    Fault("checkpoint of fold 1 in the place of fold 0's", other_folds_model, True),
    # The writer.
    Fault("label written as its index", frame(decoded(lambda _, index: str(index)), writer=True), False, ("label", "labels")),
    Fault("label written as its index + 1", frame(decoded(lambda _, index: str(index + 1)), writer=True), False, NAMED),
    Fault("label decoded by lexical order", frame(decoded(by_order(lexical)), writer=True), False, NAMED),
    Fault("label decoded by natural order", frame(decoded(by_order(natural)), writer=True), False, NAMED),
    Fault("argmax over the wrong axis", frame(wrong_axis, writer=True), False, NAMED),
    Fault("columns by position under the sample's header", frame(columns_by_position, writer=True), False, ("probability",)),
    Fault("header sorted, cells left", frame(sorted_header, writer=True), False, ("probability",)),
    Fault("probability of the negative class", frame(values(lambda cells: 1 - cells), writer=True), False, ("positive",)),
    Fault("percent", frame(values(lambda cells: 100 * cells), writer=True), False, NUMBERS),
    Fault("logits", frame(values(lambda cells: np.log(cells / (1.000001 - cells))), writer=True), False, NUMBERS),
    Fault("rounded to 0 and 1", frame(values(np.round), writer=True), False, NUMBERS),
    Fault("one row more, copied from padding", text(with_padding), False),
    Fault("ids shifted by one row", frame(rows_moved(up), writer=False), False),
    Fault("ids sorted another way", frame(rows_moved(sort_order), writer=False), False),
    Fault("ids with another extension", frame(renamed_ids(stem), writer=False), False),
    Fault("ids upper-cased", frame(renamed_ids(str.upper), writer=False), False),
    Fault("rows of the last batch lost", text(without_last_batch), False),
    Fault("file cut off", text(cut), False),
    Fault("an empty cell", frame(cell(""), writer=False), False),
    Fault("NaN in a cell", frame(cell("nan"), writer=False), False),
    Fault("semicolons for commas", text(lambda data: data.replace(b",", b";")), False),
    Fault("UTF-16", text(lambda data: data.decode().encode("utf-16")), False),
    Fault("the row number written as a column", frame(lambda _, table, __: table.reset_index(names=""), writer=False), False),
    # What surrounds the submission.
    Fault("one run alone under the blend's record", one_run_only, False),
    Fault("a fold trained again after the blend", trained_again, False),
    Fault("kk.yaml with the classes reversed after training", classes_reordered, False),
    Fault("kk.yaml: integers in lexical order", indices_lexical, False, ("index",)),
    Fault("kk.yaml: two columns crossed", columns_crossed, True, ("probability",)),
    Fault("fold table made again", fold_table_remade, False),
    Fault("test images exchanged", new_test_image, False),
    Fault("control submission of an earlier blend", old_control, False),
    # Files that `kk blend` did not write, by another model.
    Fault("foreign: two classes swapped", foreign(two_swapped), False),
    Fault("foreign: classes reversed", foreign(lambda scene: columns(scene, scene.classes.names[::-1])), False),
    Fault("foreign: classes shifted by one", foreign(rolled), False),
    Fault("foreign: lexical order", foreign(lambda scene: columns(scene, sorted(scene.classes.names))), False),
    Fault("foreign: natural order", foreign(lambda scene: columns(scene, natural(scene.classes.names))), False),
    Fault("foreign: rows shifted by one", foreign(constant(lambda probs: np.roll(probs, 1, axis=0))), False),
    Fault("foreign: rows in reverse order", foreign(constant(lambda probs: probs[::-1])), False),
    Fault("foreign: a row written twice", foreign(constant(lost_row)), False),
    Fault("foreign: index in the lexical list", foreign_index(lexical, 0), False, ("label", "index")),
    Fault("foreign: index in the lexical list + 1", foreign_index(lexical, 1), False, ("label", "index")),
    Fault("foreign: index in the natural list + 1", foreign_index(natural, 1), False, ("label", "index")),
)
INSIDE: tuple[Fault, ...] = (
    Fault("inside: test rows rolled by one", inside_predictor(up_by_one), True),
    Fault("inside: test rows 100-140 rolled", inside_predictor(within(100, 140, up_by_one)), True),
    Fault("inside: last 8 test rows reversed", inside_predictor(within(-8, None, backwards)), True),
)
"""Faults that spare the control rows. Those of columns cannot: a pass shuffles control rows and test rows into one array."""
