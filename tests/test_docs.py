"""The documentation is true: settings and commands are all there, and the README's examples run as written."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.manifest import Manifest
from service.families import FAMILIES
from service.settings import Settings
from tests.integration.conftest import ServerProcess, run_module, serve

__all__ = ["serve"]  # a fixture

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_line_with_flag_variable_and_default(name: str) -> None:
    flag, variable = f"`--{name.replace('_', '-')}`", f"`LAYERSERVE_{name.upper()}`"
    line = next(line for line in (ROOT / "docs" / "service.md").read_text().splitlines() if flag in line)
    default = Settings.model_fields[name].default
    assert variable in line
    assert default in {None, ()} or f"| `{default}` |" in line


@pytest.mark.parametrize("field", Manifest.model_fields)
def test_every_field_of_the_manifest_is_described(field: str) -> None:
    assert f"`{field}`" in (ROOT / "docs" / "artifact.md").read_text()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_metric_has_its_line_with_its_labels(name: str) -> None:
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("| `") and f"`{name}`" in line)
    assert line.split("|")[2].strip() == ", ".join(FAMILIES[name].labels)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_of_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z-]+)", README, flags=re.MULTILINE))
def test_make_targets_of_the_readme_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.slow
def test_first_curl_gives_the_answer_that_the_readme_shows(digits: Path, serve: Callable[..., ServerProcess]) -> None:
    server = serve(digits)
    server.wait_until_ready()
    command = next(block for block in blocks("sh") if block.startswith("curl"))
    command = command.replace("http://127.0.0.1:8000", str(server.client.base_url).rstrip("/"))
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    answer, shown = json.loads(done.stdout), json.loads(blocks("json")[0])
    probability, shown_probability = (item["predictions"][0].pop("probability") for item in (answer, shown))
    assert answer == shown
    # Another processor trains to slightly other weights.
    assert probability == pytest.approx(shown_probability, abs=0.05)


@pytest.mark.slow
def test_own_layer_of_the_readme_is_published_and_served(tmp_path: Path, serve: Callable[..., ServerProcess]) -> None:
    layer, script = blocks("python")
    (tmp_path / "my_layers.py").write_text(layer)
    (tmp_path / "publish_houses.py").write_text(script)
    search_path = f"{ROOT}:{tmp_path}"
    subprocess.run(
        [sys.executable, "publish_houses.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": search_path}, check=True
    )
    server = serve(tmp_path / "artifacts", "--layers", "my_layers", PYTHONPATH=search_path)
    server.wait_until_ready()
    example = server.client.get("/models/houses").json()["example"]["request"]
    assert server.client.post("/predict", json=example).status_code == 200


@pytest.mark.slow
def test_own_layer_of_the_readme_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_text(blocks("python")[0])
    command = next(block for block in blocks("sh") if "models check" in block)
    _, _, module, *arguments = shlex.split(command)
    done = run_module(module, *arguments, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_version_commands_of_the_readme_run_as_written(tmp_path: Path) -> None:
    commands = next(block for block in blocks("sh") if "export verify" in block)
    quick = {"LAYERSERVE_EPOCHS": "1", "LAYERSERVE_FORMATS": "keras"}
    for line in commands.splitlines():
        _, _, module, *arguments = shlex.split(line, comments=True)
        done = run_module(module, *arguments, LAYERSERVE_ARTIFACTS=str(tmp_path), BROWSER="true", **quick)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
