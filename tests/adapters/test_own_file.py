"""A file that defines an adapter: imported once, refused where it cannot be, named to processes started later."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import moe_analysis as ma
from moe_analysis.adapters import REGISTRY, Adapter, AdapterConfig, MoeLoraConfig, own, register

from ..new_process import printed
from ..training.own_runs import FILE


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch) -> None:
    monkeypatch.delenv(own.VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> Path:
    path = tmp_path / "file_of_a_user.py"
    path.write_text("VALUE = 1\n")
    yield path
    sys.modules.pop(path.stem, None)
    own.SOURCES.pop(path.stem, None)


def test_a_file_is_imported_once_under_its_name(file) -> None:
    module = own.load_file(file)
    assert module.VALUE == 1 and sys.modules["file_of_a_user"] is module and own.load_file(file) is module


def test_a_file_that_changed_asks_for_a_new_python(file) -> None:
    own.load_file(file)
    file.write_text("VALUE = 2\n")
    with pytest.raises(ValueError, match="has changed since it was imported; restart Python"):
        own.load_file(file)


def test_a_file_that_fails_can_be_corrected_and_imported(file) -> None:
    file.write_text("VALUE = 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        own.load_file(file)
    file.write_text("VALUE = 3\n")
    assert own.load_file(file).VALUE == 3


def test_a_missing_file_and_a_taken_name_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="adapter file .*none.py does not exist"):
        own.load_file(tmp_path / "none.py")
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ValueError, match="has the name of the module 'json', which is already imported"):
        own.load_file(tmp_path / "json.py")


def test_a_file_without_an_adapter_is_refused_and_not_named(file) -> None:
    with pytest.raises(ValueError, match="registers 0 adapters"):
        ma.use_adapter(file)
    assert own.VARIABLE not in os.environ


def test_files_are_named_once_for_later_processes(file, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(own.VARIABLE, "some.module")
    own.remember(file)
    own.remember(file)
    assert os.environ[own.VARIABLE].split(os.pathsep) == ["some.module", str(file)]


def test_what_the_variable_names_and_cannot_be_imported_is_said(monkeypatch) -> None:
    monkeypatch.setenv(own.VARIABLE, "no.such.module")
    with pytest.raises(ValueError, match="MOE_ANALYSIS_ADAPTERS names 'no.such.module', which cannot be imported"):
        own.load_named()


@pytest.mark.parametrize(
    "name, config, said",
    [
        ("Mixed", None, "must be a lower-case word"),
        ("two words", None, "must be a lower-case word"),
        ("plainone", AdapterConfig, "must be a separate class"),
        ("borrowed", MoeLoraConfig, "belongs to MoeLora"),
    ],
)
def test_an_adapter_that_could_not_be_found_again_is_not_registered(name, config, said) -> None:
    @dataclass
    class OwnConfig(AdapterConfig):
        pass

    with pytest.raises(ValueError, match=said):
        register(name)(type("Mine", (Adapter,), {"config_class": config or OwnConfig}))
    assert name not in REGISTRY


def test_an_undecorated_configuration_is_not_registered() -> None:
    forgotten = type("ForgottenConfig", (AdapterConfig,), {})
    with pytest.raises(ValueError, match="ForgottenConfig must be a separate class, a @dataclass"):
        register("forgotten")(type("Mine", (Adapter,), {"config_class": forgotten}))


def test_a_new_process_knows_the_adapter_as_a_method_and_as_a_case_of_the_contract(tmp_path) -> None:
    (path := tmp_path / "gated_lora.py").write_text(FILE)
    code = (
        "import moe_analysis as ma; ma.TRexConfig  # which brings the bridge to PEFT\n"
        "import peft; from tests.adapters.cases import CASES, ours\n"
        "config = peft.PeftConfig.from_peft_type(peft_type='GATEDLORA', r=3)\n"
        f"assert type(config) is ma.use_adapter({str(path)!r}) and config.r == 3\n"
        "print(('gatedlora', {}) in CASES and not ours('gatedlora') and ours('trex'))"
    )
    assert printed(code, **{own.VARIABLE: str(path)}) == ["True\n"]


def test_a_file_that_registers_and_then_fails_leaves_nothing_registered(file) -> None:
    file.write_text(FILE.replace("gatedlora", "halfway") + "\nVALUE = 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        own.load_file(file)
    assert "halfway" not in REGISTRY and file.stem not in sys.modules


def test_the_source_is_that_which_was_executed_and_not_what_the_file_became(file) -> None:
    file.write_text(FILE.replace("gatedlora", "firstform"))
    own.load_file(file)
    try:
        file.write_text("VALUE = 2\n")
        source = own.source_of("firstform")
        assert b"firstform" in source.content and source.path == file
        assert source.sha256 == hashlib.sha256(source.content).hexdigest()
    finally:
        del REGISTRY["firstform"]


def test_a_module_of_the_users_has_a_source_and_ours_have_none(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_by_name.py").write_text(FILE.replace("gatedlora", "byname"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(own.VARIABLE, "mine_by_name")
    own.load_named()
    try:
        assert own.source_of("byname").path == tmp_path / "mine_by_name.py"
        assert all(own.source_of(name) is None for name in ("trex", "moelora", "nobodys"))
    finally:
        del REGISTRY["byname"], sys.modules["mine_by_name"], own.SOURCES["mine_by_name"]
