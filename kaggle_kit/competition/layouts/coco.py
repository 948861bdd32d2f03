"""Labels in JSON as of COCO: images, annotations, categories. A class is called by its category's id, as graders do."""

from __future__ import annotations

from kaggle_kit.competition.layouts.base import Layout, Material
from kaggle_kit.competition.layouts.columns import CsvTable
from kaggle_kit.competition.layouts.csv import infer_table, read_rows
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.tables import shown


def _documents(material: Material) -> list[CsvTable]:
    return [table for table in material.tables if table.annotated]


def _offers(material: Material) -> str | None:
    found = [table for table in _documents(material) if table.role != "val"]
    return f"the annotations in {shown(table.file for table in found)}" if found else None


def _infer(material: Material) -> TrainReading:
    return infer_table(material, [table for table in _documents(material) if table.role not in ("test", "val")], layout="coco")


COCO = Layout(_offers, _infer, read_rows)
