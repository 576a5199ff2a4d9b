"""The static audit: what it refuses, where it says so, and that it executes nothing."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser, ReferenceResolver

from nestseg.bundle import allowed, archive, audit, expressions, locate, manifest
from nestseg.bundle.export import export
from nestseg.bundle.findings import errors
from nestseg_prep.errors import InputError

BUNDLE = "hippocampus_unetpp"
OURS = locate.find(BUNDLE)
GLOBALS = {name: frozenset({path}) for name, path in allowed.GLOBALS.items()}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a committed bundle, to be spoilt."""
    return Path(shutil.copytree(OURS, tmp_path / BUNDLE))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object], name: str = "train") -> None:
    path = bundle / "configs" / f"{name}.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def last(bundle: Path, *keys: str) -> str:
    """The id of the last item of a list in train.json."""
    item = json.loads((bundle / "configs" / "train.json").read_text())
    for key in keys:
        item = item[key]
    return "#".join((*keys, str(len(item) - 1)))


def lines(bundle: Path) -> list[str]:
    return [finding.line for finding in errors(audit.audit(bundle))]


def test_the_committed_bundles_are_clean() -> None:
    for name in locate.names():
        assert errors(audit.audit(locate.find(name))) == []


TARGETS = [
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "exec",
    "open",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.nn.functional.torch.hub.load",
    "torch.ops.load_library",
    "torch.utils.cpp_extension.load_inline",
    "torch.utils.collect_env.run",
    "numpy.load",
    "numpy.f2py.compile",
    "monai.apps.download_and_extract",
    "monai.apps.utils.download_url",
    "monai.bundle.run",
    "monai.bundle.ConfigParser",
    "monai.utils.optional_import",
    "monai.utils.run_cmd",
    "monai.utils.misc.subprocess.run",
    "monai.data.load_net_with_metadata",
    "monai.data.LMDBDataset",
    "monai.handlers.MLFlowHandler",
    "monai.transforms.io.array.locate",
    "run_cmd",
    "download_url",
    "ConfigWorkflow",
    "instantiate",
    "nestseg.cli.main",
    "nestseg.bundle.loaded.load",
    "scripts.net.Net",
    "pickle.loads",
    "torch._C._jit_import",
    "monai.transforms.__loader__.load_module",
    "@network_def",
    "%network_def",
    "$'os' + '.system'",
    "$@names.first",
    "$monai.utils.optional_import",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_not_on_the_list_is_refused_with_its_place(
    bundle: Path, target: str
) -> None:
    edit(bundle, lambda c: c["train"]["handlers"].append({"_target_": target, "command": "x"}))
    (line,) = lines(bundle)
    assert line.startswith(f"train.json: {last(bundle, 'train', 'handlers')}#_target_: ")


def test_the_line_says_what_and_where(bundle: Path) -> None:
    edit(bundle, lambda c: c["train"]["handlers"][2].update(_target_="os.system"))
    (line,) = lines(bundle)
    assert line.startswith(
        "train.json: train#handlers#2#_target_: os.system is not on the list of what a bundle may "
        "call; "
    )


USUAL = [
    "list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "[{'image': i, 'label': l} for i, l in zip(@images, @labels)]",
    "torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "monai.handlers.from_engine(['pred', 'label'])",
    "monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='training')",
    "setattr(torch.backends.cudnn, 'benchmark', True)",
    "os.path.join(@bundle_root, 'models')",
    "int(os.environ['LOCAL_RANK'])",
    "dist.is_initialized() or dist.init_process_group(backend='nccl')",
    "torch.cuda.set_device(@device)",
    "torch.nn.parallel.DistributedDataParallel(module=@network.to(@device), device_ids=[@device])",
    "@train#handlers[: -2 if dist.get_rank() > 0 else None]",
    "@validate#handlers#0.set_trainer(trainer=@train#trainer) if @early_stop else None",
    "lambda x: torch.where(x > 0, 1, 0).to(dtype=torch.float32)",
    "@network.load_state_dict(@state, strict=False)",
    "monai.utils.set_determinism(seed=123)",
    "@train#trainer.run()",
    "f'cuda:{dist.get_rank()}'",
    "np.uint8",
    "@gamma.eval().modules()",
]


@pytest.mark.parametrize("expression", USUAL)
def test_what_bundles_usually_compute_is_allowed(expression: str) -> None:
    imports = {"glob": "glob", "os": "os", "dist": "torch.distributed"}
    known = GLOBALS | {name: frozenset({path}) for name, path in imports.items()}
    assert expressions.problems(f"${expression}", known, lambda _: False) == []


EXPRESSIONS = [
    "__import__('os').system('x')",
    "setattr(torch, 'load', print)",
    "setattr(torch.backends.cudnn, '__class__', print)",
    "open('x', 'w')",
    "eval('1')",
    "exec('1')",
    "getattr(torch, 'lo' + 'ad')('x')",
    "().__class__.__base__.__subclasses__()",
    "[c for c in ().__class__.__mro__]",
    "(lambda: 0).__globals__",
    "(x for x in ()).gi_frame.f_builtins",
    "'{0.__class__}'.format(1)",
    "f'{().__class__}'",
    "torch.load('x')",
    "torch.hub",
    "torch.os.system('x')",
    "[torch][0].utils.cpp_extension.load_inline('x')",
    "(lambda m: m.utils)(torch)",
    "[torch.load for torch in [1]]",
    "[0 for torch.load in [print]]",
    "(lambda eval: 0)(1) or eval('1')",
    "(eval := 1)",
    "numpy.load('x', allow_pickle=True)",
    "np.array([1]).tofile('x')",
    "np.array([1]).dump('x')",
    "monai.utils.module.import_module('os')",
    "monai.bundle.run('x')",
    "monai.transforms.LoadImage('sub' + 'process.Popen')",
    "monai.transforms.SaveImaged(keys='x', output_dir='x', writer='os.system')",
    "@network.__class__",
    "@imports#0.load('x')",
    "@imports[0].load('x')",
    "@[0]",
    "__local_refs['imports'][0]",
    "__local_refs",
    "type('X', (), {})",
    "globals()",
    "vars(torch)",
    "breakpoint()",
    "input()",
    "os.system('x')",
    "sys.modules['os']",
    "print.__self__",
    "await x",
    "(yield)",
    "torch.serialization.load('x')",
    "torch.nn.Module.__init__.__globals__",
    "@train#trainer.logger.handlers[0].stream.write('x')",
    "'a'.join(['b']).__len__()",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_that_reaches_beyond_the_list_is_refused(
    bundle: Path, expression: str
) -> None:
    edit(bundle, lambda c: c["initialize"].append(f"${expression}"))
    found = lines(bundle)
    assert found
    place = last(bundle, "initialize")
    assert all(line.startswith(f"train.json: {place}: ") for line in found)


@pytest.mark.parametrize(
    "statement",
    [
        "import os.path as p; import sys",
        "import subprocess",
        "import os, sys",
        "from os import system",
        "from torch import hub",
        "from torch import load as cat",
        "from monai.utils import optional_import",
        "from . import scripts",
        "import scripts",
        "from torch import *",
        "import importlib",
        "import sys",
    ],
)
def test_an_import_that_is_not_on_the_list_is_refused(bundle: Path, statement: str) -> None:
    edit(bundle, lambda c: c["imports"].append(f"${statement}"))
    (line,) = lines(bundle)
    assert line.startswith(f"train.json: {last(bundle, 'imports')}: ")


def test_an_import_is_found_in_the_metadata_too(bundle: Path) -> None:
    edit(bundle, lambda c: c.update(note={"a": ["$import subprocess"]}), "metadata")
    (line,) = lines(bundle)
    assert line.startswith("metadata.json: note#a#0: subprocess is not on the list")


def test_an_alias_is_judged_by_all_that_it_may_stand_for(bundle: Path) -> None:
    edit(bundle, lambda c: c["imports"].append("$import numpy as torch"))
    edit(bundle, lambda c: c["initialize"].append("$torch.loadtxt('x')"))
    assert any("loadtxt" in line for line in lines(bundle))


@pytest.mark.parametrize(
    "key", ["validate#dataset#_target_", "+train#trainer#_target_", "a::_target_"]
)
def test_a_key_that_reaches_into_another_config_is_judged_by_its_end(
    bundle: Path, key: str
) -> None:
    edit(bundle, lambda c: c.update({key: "os.system"}), "evaluate")
    (line,) = lines(bundle)
    assert line.startswith(f"evaluate.json: {key}: os.system is not on the list")


@pytest.mark.parametrize("value", ["os.system", "exec", "@x", "$'os.sys' + 'tem'", ["os.system"]])
@pytest.mark.parametrize("key", ["reader", "writer", "merger_cls"])
def test_a_reader_or_writer_that_monai_would_import_is_refused(
    bundle: Path, key: str, value: Any
) -> None:
    change = {"_target_": "LoadImaged", "keys": "image", key: value}
    edit(bundle, lambda c: c["load"].append(change), "inference")
    (line,) = lines(bundle)
    assert line.startswith(f"inference.json: load#3#{key}")


@pytest.mark.parametrize(
    ("extra", "place"),
    [
        ({"_target_": "Compose", "_mode_": "debug"}, "x#_mode_"),
        ({"_target_": "Compose", "_debug_": True}, "x#_debug_"),
        ({"_target_": "LoadImaged", "_mode_": "callable"}, "x"),
        ({"_target_": "LoadImaged", "keys": "a", "allow_pickle": True}, "x#allow_pickle"),
        ({"_target_": "CheckpointLoader", "weights_only": "$1 > 2"}, "x#weights_only"),
        ({"y": "@imports#0"}, "x#y"),
        ({"y": "%configs/evil.yaml#y"}, "x#y"),
        ({"y": "%/etc/evil.json#y"}, "x#y"),
    ],
)
def test_other_doors_of_the_config_language_are_closed(
    bundle: Path, extra: dict[str, Any], place: str
) -> None:
    edit(bundle, lambda c: c.update(x=extra))
    (line,) = lines(bundle)
    assert line.startswith(f"train.json: {place}: ")


def test_a_macro_file_is_read_like_a_config(bundle: Path) -> None:
    (bundle / "configs" / "evil.yaml").write_text("net:\n  _target_: os.system\n  command: x\n")
    edit(bundle, lambda c: c.update(x="%configs/evil.yaml#net"))
    first, second = sorted(lines(bundle))
    assert first.startswith("evil.yaml: net#_target_: os.system")
    assert second.startswith("train.json: x: a macro may not read a file")


@pytest.mark.parametrize(
    "shape", ["__import__('os').system('x')", "n.__class__", "16*n or exit()", "$n", "q*16"]
)
def test_a_spatial_shape_is_arithmetic(bundle: Path, shape: str) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["network_data_format"]["inputs"]["image"]["spatial_shape"][1] = shape

    edit(bundle, change, "metadata")
    assert any(
        line.startswith("metadata.json: network_data_format#inputs#image#spatial_shape#1: ")
        for line in lines(bundle)
    )


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("args=(sys.stdout,)", "args=(__import__('os').system('x'),)", "handler_console#args"),
        ("args=(sys.stdout,)", "args=%(evil)s\nevil=exit()", "handler_console#args"),
        ("args=(sys.stdout,)", "kwargs={'a': open('x')}", "handler_console#kwargs"),
        ("class=StreamHandler", "class=eval", "handler_console#class"),
        ("class=StreamHandler", "class=handlers.SocketHandler", "handler_console#class"),
        ("format=", "class=os.system\nformat=", "formatter_plain#class"),
    ],
)
def test_a_logging_configuration_holds_literals_only(
    bundle: Path, old: str, new: str, place: str
) -> None:
    path = bundle / "configs" / "logging.conf"
    path.write_text(path.read_text().replace(old, new))
    (line,) = lines(bundle)
    assert line.startswith(f"logging.conf: {place}: ")


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def test_pickles_programs_and_links_are_refused(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = pickle.dumps(Evil(canary))
    (bundle / "models" / "cache.pkl").write_bytes(evil)
    (bundle / "models" / "notes.txt").write_bytes(evil)
    torch.save({"model": Evil(canary)}, bundle / "models" / "model.pt")
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").touch()
    (bundle / "docs" / "run.md").write_text("#!/bin/sh\n")
    (bundle / "docs" / "passwd.txt").symlink_to("/etc/passwd")
    (bundle / "more").symlink_to("/etc")
    named = {line.split(":")[0] for line in lines(bundle)}
    assert named == {
        "docs/passwd.txt",
        "docs/run.md",
        "models/cache.pkl",
        "models/model.pt",
        "models/notes.txt",
        "more",
        "scripts/__init__.py",
    }
    assert not canary.exists()


def test_nothing_that_it_refuses_is_executed(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    command = {"_target_": "os.system", "command": f"touch {canary}"}

    def spoil(config: dict[str, Any]) -> None:
        config["imports"].append(f"${touch}")
        config["device"] = f"${touch}"
        config["network_def"] = command

    for name in ("train", "inference"):
        edit(bundle, spoil, name)
    edit(bundle, lambda c: c.update(version=f"${touch}"), "metadata")
    (bundle / "configs" / "evil.yaml").write_text(f"a: '${touch}'".replace("''", "'"))
    assert len(lines(bundle)) >= 7
    assert not canary.exists()
    parser = ConfigParser()  # the same config, run as MONAI runs it: the canary is a real one
    parser.read_config(bundle / "configs" / "inference.json")
    parser.get_parsed_content("network_def")
    assert canary.exists()


def test_a_bundle_that_is_changed_after_its_export_is_refused(tmp_path: Path) -> None:
    made = export(OURS, tmp_path)
    assert manifest.check(made, demanded=True) == []
    (made / "docs" / "README.md").write_text("other")
    (made / "LICENSE").unlink()
    (made / "docs" / "more.txt").touch()
    found = sorted(finding.line for finding in manifest.check(made, demanded=False))
    assert [line.split(";")[0] for line in found] == [
        "LICENSE: is missing",
        f"docs/README.md: is not the file that {manifest.NAME} lists",
        f"docs/more.txt: is not in {manifest.NAME}",
    ]


def test_a_missing_manifest_is_an_error_where_one_is_demanded(bundle: Path) -> None:
    assert manifest.check(bundle, demanded=False) == []
    assert len(manifest.check(bundle, demanded=True)) == 1


def test_the_zip_file_of_a_bundle_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = export(OURS, tmp_path / "a.zip")
    copy = Path(shutil.copytree(OURS, tmp_path / "copy" / BUNDLE, copy_function=shutil.copyfile))
    (copy / "runs").mkdir()
    (copy / "runs" / "events.log").touch()
    (copy / "configs" / "__pycache__").mkdir()
    second = export(copy, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with archive.opened(first) as folder:
        assert folder.name == BUNDLE
        assert manifest.check(folder, demanded=True) == []
        assert audit.audit(folder) == []
    assert not folder.exists()


def test_an_export_never_overwrites_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "taken.zip").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        export(OURS, tmp_path / "taken.zip")
    with pytest.raises(InputError, match="no bundle"):
        export(tmp_path, tmp_path / "new.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.zip"]


def link() -> zipfile.ZipInfo:
    item = zipfile.ZipInfo("b/link")
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    return item


@pytest.mark.parametrize(
    "item",
    ["b/../../escaped.txt", "/escaped.txt", "b\\..\\..\\escaped.txt", "c:/x", link(), "other/x"],
)
def test_a_zip_file_that_reaches_out_of_its_folder_is_not_unpacked(
    tmp_path: Path, item: str | zipfile.ZipInfo
) -> None:
    path = tmp_path / "in" / "b.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("b/LICENSE", "")
        made.writestr(item, "/etc/passwd")
    with pytest.raises(InputError, match=r"b\.zip: "), archive.opened(path):
        pass
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "b.zip"]


ATOMS = st.sampled_from(["1", "'a'", "None", "x", "torch.float32", "np.pi", "@a#b", "len"])
DANGERS = st.sampled_from(
    ["open", "eval", "__import__", "torch", "x.__class__", "torch.load", "x.system", "(y := 1)"]
)
SHAPES = [
    "({}, {})",
    "[{} for x in {}]",
    "len({}, *{})",
    "{}[{}]",
    "(lambda x: {})({})",
    "({} if {} else 1)",
    "{{{}: {}}}",
    "({} + {})",
    "({} and not {})",
    "max(1, key={}, default={})",
    "[1 for x in {} if {}]",
    "(lambda x={}: x)({})",
    "str({}).join({})",
    "f'''{{ {} }} {{ {} }}'''",
]


def contexts(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of every allowed shape around the strings of a strategy."""
    shapes = st.sampled_from(SHAPES)
    return st.builds(lambda shape, a, b: shape.format(a, b), shapes, inside, inside)


def problems(text: str) -> list[str]:
    return expressions.problems(
        f"${text}", {**GLOBALS, "x": frozenset({"math.pi"})}, lambda _: False
    )


@given(st.recursive(ATOMS, contexts, max_leaves=8))
@settings(max_examples=60, deadline=None)
def test_whatever_is_built_from_what_is_allowed_is_allowed(text: str) -> None:
    if text.count("f'''") < 2:  # nested ones need quotes of another kind
        assert problems(text) == []


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_danger_is_found_wherever_it_stands(data: st.DataObject) -> None:
    text = data.draw(DANGERS)
    for _ in range(data.draw(st.integers(0, 4))):
        shape, other = data.draw(st.sampled_from(SHAPES)), data.draw(ATOMS)
        sides = (text, other) if data.draw(st.booleans()) else (other, text)
        text = shape.format(*sides)
    assert problems(text) != []


@given(st.text(alphabet="@#:$%_ab1 .()[]'+\n", max_size=40))
@settings(max_examples=80, deadline=None)
def test_the_text_that_is_judged_is_the_text_that_monai_evaluates(text: str) -> None:
    ids = ReferenceResolver.match_refs_pattern(f"${text}")
    known = dict.fromkeys(ids, None)
    assert f"${expressions.evaluated_text(f'${text}')}" == ReferenceResolver.update_refs_pattern(
        f"${text}", known
    )
    problems(text)  # and no text makes it fail


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_any_text_gets_a_verdict_and_what_is_no_python_is_refused(text: str) -> None:
    found = problems(text)
    try:
        ast.parse(expressions.evaluated_text(f"${text}"), mode="eval")
    except (SyntaxError, ValueError):
        assert found


def test_an_expression_too_deep_to_parse_is_refused() -> None:
    assert problems("(" * 1500 + ")" * 1500)
    assert problems("-" * 3900 + "1")
    assert problems("1+" * 5000 + "1")
