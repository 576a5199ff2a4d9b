"""Recipes compose by their rules, and the committed configs are what the recipes render."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from nestseg.bundle import recipe
from nestseg.bundle.new import PARTS_OF_NEW_BUNDLES
from nestseg.bundle.recipe import compose

BUNDLES = Path(__file__).parents[2] / "bundles"
FOLDERS = recipe.recipes(BUNDLES)


def test_a_later_key_replaces_an_earlier_one_whole() -> None:
    assert compose([{"net": {"depth": 4, "act": "relu"}, "seed": 0}, {"net": {"depth": 3}}]) == {
        "net": {"depth": 3},
        "seed": 0,
    }


def test_imports_add_up_each_once_and_come_first() -> None:
    merged = compose(
        [
            {"a": 1, "imports": ["$import torch", "$import numpy as np"]},
            {"imports": ["$import json", "$import torch"]},
        ]
    )
    assert list(merged) == ["imports", "a"]
    assert merged["imports"] == ["$import torch", "$import numpy as np", "$import json"]


def test_a_hash_reaches_into_a_mapping_and_a_list() -> None:
    merged = compose(
        [{"net": {"act": "relu", "widths": [8, 16]}}, {"net#act": "elu", "net#widths#1": 32}]
    )
    assert merged == {"net": {"act": "elu", "widths": [8, 32]}}


def test_a_plus_extends_a_list_or_a_mapping() -> None:
    merged = compose(
        [{"keys": ["image"], "net": {"act": "relu"}}, {"+keys": ["label"], "+net": {"depth": 3}}]
    )
    assert merged == {"keys": ["image", "label"], "net": {"act": "relu", "depth": 3}}


def test_a_plus_and_a_hash_together_extend_what_lies_inside() -> None:
    merged = compose([{"train": {"handlers": ["stats"]}}, {"+train#handlers": ["saver"]}])
    assert merged == {"train": {"handlers": ["stats", "saver"]}}


@pytest.mark.parametrize("fragments", [[{"+kyes": [1]}], [{"keys": [0]}, {"+kyes": [1]}]])
def test_a_plus_on_nothing_is_refused(fragments: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="'\\+kyes' extends nothing"):
        compose(fragments)


@pytest.mark.parametrize("text", ["1e-3", "0.5", "12", "nan", "-inf"])
def test_text_that_looks_like_a_number_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=f"optimizer#lr#1: '{text}' is text that looks like"):
        compose([{"optimizer": {"lr": [0.1, text]}}])


def test_text_numbers_and_expressions_pass() -> None:
    fragment = {"a": 1e-3, "b": "1x1", "c": "$1e-3", "d": "@a", "e": True, "f": None, "g": "."}
    assert compose([fragment]) == fragment


def test_composing_leaves_the_fragments_alone() -> None:
    fragments: list[dict[str, Any]] = [
        {"keys": ["image"], "net": {"act": "relu"}, "imports": ["$import torch"]},
        {"+keys": ["label"], "net#act": "elu", "imports": ["$import json"]},
    ]
    before = copy.deepcopy(fragments)
    assert compose(fragments) == compose(fragments)
    assert fragments == before


def test_nothing_composes_to_nothing() -> None:
    assert compose([]) == {}


def test_a_recipe_is_rendered_from_its_parts_and_its_override(tmp_path: Path) -> None:
    parts, bundle = tmp_path / "_parts", tmp_path / "tiny"
    for folder in (parts, bundle):
        folder.mkdir()
    (parts / "net.yaml").write_text("net: {depth: 4, act: relu}\nkeys: [image]\n")
    (parts / "train.yaml").write_text("+keys: [label]\nlr: 0.001\n")
    (bundle / "bundle.yaml").write_text(
        "train: {parts: [net, train], override: {net#depth: 3}}\ninference: {parts: [net]}\n"
    )
    (parts / "logging.conf").write_text("[loggers]\n")
    (tmp_path / "notes").mkdir()
    assert recipe.recipes(tmp_path) == [bundle]
    recipe.write(bundle)
    recipe.write(bundle)  # again over itself
    configs = bundle / "configs"
    assert (configs / "logging.conf").read_text() == "[loggers]\n"
    assert {path.name: json.loads(path.read_text()) for path in configs.glob("*.json")} == {
        "train.json": {"net": {"depth": 3, "act": "relu"}, "keys": ["image", "label"], "lr": 0.001},
        "inference.json": {"net": {"depth": 4, "act": "relu"}, "keys": ["image"]},
    }


def test_an_overlay_keeps_the_keys_that_reach_into_what_lies_below(tmp_path: Path) -> None:
    parts, bundle = tmp_path / "_parts", tmp_path / "tiny"
    for folder in (parts, bundle):
        folder.mkdir()
    (parts / "logging.conf").touch()
    (parts / "evaluate.yaml").write_text("keys: [image]\nvalidate#handlers: []\n")
    (bundle / "bundle.yaml").write_text(
        "evaluate: {parts: [evaluate], overlay: true, override: {keys: [label]}}\n"
    )
    merged = json.loads(recipe.render(bundle)["evaluate.json"])
    assert merged == {"keys": ["label"], "validate#handlers": []}


def test_every_bundle_is_covered() -> None:
    folders = {path for path in BUNDLES.iterdir() if path.is_dir() and path.name != recipe.PARTS}
    assert set(FOLDERS) == folders
    assert len(FOLDERS) > 0


@pytest.mark.parametrize("bundle", FOLDERS, ids=lambda path: path.name)
def test_the_committed_configs_are_what_the_recipe_renders(bundle: Path) -> None:
    rendered = recipe.render(bundle)
    committed = {path.name: path for path in (bundle / "configs").iterdir()}
    assert set(committed) == set(rendered)
    for name, text in rendered.items():
        assert committed[name].read_text() == text


def test_every_part_is_used() -> None:
    used = {
        part
        for bundle in FOLDERS
        for config in ConfigParser.load_config_file(bundle / recipe.RECIPE).values()
        for part in config["parts"]
    }
    used |= set(PARTS_OF_NEW_BUNDLES)
    assert used == {path.stem for path in (BUNDLES / recipe.PARTS).glob("*.yaml")}
