"""The project's own promises: versions that agree, arrows that run one way, a console command that is quick."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import meit_ecg
from modeling_meit import configuration_meit
from reporting.notice import DRAFT_NOTICE

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
SCRIPTS = PROJECT["tool"]["setuptools"]["py-modules"]
OURS = {*PACKAGES, *SCRIPTS}
# package -> what of ours it may import
ARROWS = {
    "modeling_meit": set(),
    "processing": set(),
    "dataset_builder": {"processing"},
    "evaluation": set(),
    "training": {"modeling_meit", "processing", "dataset_builder", "reporting"},
    "reporting": {"modeling_meit", "processing", "dataset_builder", "evaluation"},
    "publishing": {"dataset_builder", "evaluation", "reporting"},
    "tasks": {"processing", "dataset_builder", "evaluation", "reporting"},
}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file_name):
    pinned = {}
    for line in (ROOT / file_name).read_text("utf-8").split():
        name, _, version = line.partition("==")
        assert version, f"{file_name}: {line!r} is no exact pin"
        pinned[canonical(name)] = Version(version)
    return pinned


def requirements():
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    return [needed for needed in map(Requirement, lines) if needed.name != "meit-ecg"]


def test_the_lock_pins_each_dependency_inside_its_range():
    locked = pins("constraints.txt")
    for needed in requirements():
        version = locked[canonical(needed.name)]
        assert version in needed.specifier, f"{needed} but constraints.txt has {version}"
        assert version.local is None, f"{needed.name}: {version} names a build that a plain index does not have"


def test_the_lowest_lock_is_the_lower_end_of_the_stated_range():
    (needed,) = (needed for needed in requirements() if needed.name == "transformers")
    lower = next(Version(part.version) for part in needed.specifier if part.operator == ">=")
    lowest = pins("constraints-lowest.txt")
    assert lowest["transformers"].release[:2] == lower.release[:2]
    assert all(
        version in needed.specifier
        for needed in requirements()
        for version in [lowest.get(canonical(needed.name))]
        if version
    )


def test_the_code_checks_the_range_that_the_project_states():
    (needed,) = (needed for needed in requirements() if needed.name == "transformers")
    bounds = {part.operator: Version(part.version).release for part in needed.specifier}
    assert bounds[">="] == configuration_meit.MINIMUM_TRANSFORMERS
    assert bounds["<"] == configuration_meit.FIRST_UNTESTED_TRANSFORMERS


def imported(path, package):
    """Top-level names that a file imports, inside functions too; relative imports are the package itself."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_run_one_way(package):
    for path in (ROOT / package).glob("*.py"):
        others = imported(path, package) & OURS - {package}
        assert others <= ARROWS[package], f"{path.name} imports {others - ARROWS[package]}"


def test_evaluation_imports_no_model():
    for path in (ROOT / "evaluation").glob("*.py"):
        assert not imported(path, "evaluation") & {"torch", "transformers", "peft", "trl"}


def test_every_package_and_script_is_in_the_distribution():
    assert sorted(PACKAGES) == sorted(
        path.parent.name for path in ROOT.glob("[a-z]*/__init__.py") if path.parent.name != "tests"
    )
    assert sorted(SCRIPTS) == sorted(path.stem for path in ROOT.glob("*.py"))


def in_fresh_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_every_command_and_the_notice_and_loads_nothing_heavy():
    shown = in_fresh_python("-X", "importtime", "meit_ecg.py", "--help")
    assert shown.returncode == 0
    assert DRAFT_NOTICE in shown.stdout
    for command in ("build", "train", "report", "benchmark", "push"):
        assert re.search(rf"^  {command} ", shown.stdout, re.MULTILINE)
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "matplotlib", "datasets", "huggingface_hub"}


def test_an_unknown_command_is_refused_with_the_known_ones():
    shown = in_fresh_python("meit_ecg.py", "diagnose")
    assert shown.returncode == 2
    assert "'build', 'train', 'report', 'benchmark', 'push'" in shown.stderr


def test_version_is_the_projects(capsys):
    with pytest.raises(SystemExit):
        meit_ecg.main(["--version"])
    assert capsys.readouterr().out.split()[1:] in ([PROJECT["project"]["version"]], ["not", "installed"])


@pytest.mark.parametrize("command", meit_ecg.COMMANDS)
def test_a_command_gets_the_arguments_after_its_name_and_gives_the_exit_status(command, monkeypatch):
    module, _ = meit_ecg.COMMANDS[command]
    received = []
    fake = types.ModuleType(module)
    fake.main = lambda argv: received.append(argv) or 7
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(sys, "argv", ["meit-ecg"])
    assert meit_ecg.main([command, "--help", "x", "-n", "3"]) == 7
    assert received == [["--help", "x", "-n", "3"]]
    assert sys.argv[0] == f"meit-ecg {command}"


@pytest.mark.parametrize("command", meit_ecg.COMMANDS)
def test_each_command_has_a_main_that_takes_arguments(command):
    module, _ = meit_ecg.COMMANDS[command]
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert [argument.arg for argument in main.args.args] == ["argv"]


def test_the_readme_states_the_notice_the_range_and_the_commands():
    readme = (ROOT / "README.md").read_text("utf-8")
    (needed,) = (needed for needed in requirements() if needed.name == "transformers")
    lower, upper = (next(p.version for p in needed.specifier if p.operator == sign) for sign in (">=", "<"))
    for words in (DRAFT_NOTICE, "make report", "make test", f"transformers >= {lower}, < {upper}"):
        assert words in readme, words
    for command in meit_ecg.COMMANDS:
        assert f"meit-ecg {command} " in readme


def test_relative_links_in_the_documents_lead_somewhere():
    for document in ("README.md", "model_card.md"):
        for target in re.findall(r"\]\(([^)\s#]+)", (ROOT / document).read_text("utf-8")):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{document}: {target}"


def test_the_wheel_holds_code_prompts_card_and_recipes(tmp_path):
    pytest.importorskip("setuptools")
    copy = tmp_path / "checkout"  # building writes into the tree
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "model_card.md"):
        shutil.copy(ROOT / name, copy)
    for name in SCRIPTS:
        shutil.copy(ROOT / f"{name}.py", copy)
    for name in [*PACKAGES, "recipes"]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, copy],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("meit_ecg-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).glob("*.py")}
    expected |= {f"{name}.py" for name in SCRIPTS}
    files = [("dataset_builder", "*.txt"), ("evaluation", "*.txt"), ("evaluation", "*.html"), ("tasks", "*.js")]
    expected |= {str(path.relative_to(ROOT)) for package, kind in files for path in (ROOT / package).glob(kind)}
    assert expected <= names
    data = {name.partition(".data/data/")[2] for name in names}
    assert {"share/meit-ecg/model_card.md"} | {
        f"share/meit-ecg/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")
    } <= data


def test_the_quickstart_drafts_for_a_file_where_the_corpus_folder_holds_one(tmp_path, monkeypatch):
    import quickstart  # here, as it takes seconds

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEIT_DATA", str(tmp_path))
    monkeypatch.setattr(quickstart, "REPOSITORY", tmp_path)
    monkeypatch.setattr(quickstart, "_write_page", lambda corpus, commands: tmp_path / "index.html")
    steps = []
    monkeypatch.setattr(quickstart, "_run", lambda *arguments: steps.append(arguments[0]))
    (tmp_path / "ptb-xl" / "records500").mkdir(parents=True)
    assert quickstart.main([]) == 0
    assert steps == ["build", "train", "benchmark"]
    (tmp_path / "ptb-xl" / "records500" / "00001_hr.hea").write_text("")
    assert quickstart.main([]) == 0
    assert steps[3:] == ["build", "train", "benchmark", "report"]
