"""The repository itself: what its files must not name, what its locks hold, and what its wheel contains."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hookrelay

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

REGISTRY = re.compile(r"(pypi|pythonhosted|npmjs|yarnpkg|nodesource|piwheels|anaconda)\.(org|com)", re.IGNORECASE)
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:root|work|home)/")


def repository_files() -> list[Path]:
    """What is in version control, or would be: a copy without that metadata is walked."""
    listed = (
        subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout
        if shutil.which("git") and (ROOT / ".git").exists()
        else ""
    )
    names = [Path(name) for name in listed.split("\0") if name] or list(walk())
    return [name for name in names if (ROOT / name).is_file()]


def walk() -> Iterator[Path]:
    made = {"__pycache__", "node_modules", "build", "dist"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in made and not name.endswith(".egg-info") and (name[0] != "." or name == ".ci")
        ]
        for name in files:
            if not name.endswith(".pyc"):
                yield (Path(folder) / name).relative_to(ROOT)


def test_the_list_of_files_sees_the_whole_repository() -> None:
    names = {str(name) for name in repository_files()}
    assert {"pyproject.toml", "hookrelay/model.py", "tests/node/package-lock.json"} <= names
    assert not [name for name in names if name.startswith((".venv/", ".git/", "tests/node/node_modules/"))]


@pytest.mark.parametrize("forbidden", [REGISTRY, MACHINE_PATH], ids=["registry", "machine path"])
def test_no_file_names_a_package_registry_or_a_path_of_the_machine_it_was_written_on(
    forbidden: re.Pattern[str],
) -> None:
    found = []
    for name in repository_files():
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        found += [
            f"{name}:{number}: {line[:120]}"
            for number, line in enumerate(text.splitlines(), 1)
            if forbidden.search(line)
        ]
    assert found == []


def requirements(lock: Path) -> list[list[str]]:
    """The lines of a lock, each as its words; continuation lines joined, comments left out."""
    text = lock.read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins(name: str) -> dict[str, str]:
    found = (words[0].partition("==") for words in requirements(ROOT / "requirements" / name))
    return {canonicalize_name(library): version for library, _, version in found}


def test_there_is_a_lock_to_build_to_run_and_to_develop() -> None:
    assert [lock.name for lock in LOCKS] == ["build.txt", "dev.txt", "otel.txt", "runtime.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_library_by_version_and_hash_and_says_nothing_else(lock: Path) -> None:
    lines = requirements(lock)
    assert lines
    for pin, *options in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin), pin
        assert options, f"{pin} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options), pin


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime.txt", PROJECT["dependencies"]),
        ("otel.txt", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["otel"]),
        ("dev.txt", sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])),
        ("build.txt", tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]),
    ],
)
def test_a_lock_holds_what_pyproject_asks_for(lock: str, wanted: list[str]) -> None:
    pinned = pins(lock)
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {lock}: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} in {lock}: run `make lock`"


def test_the_lock_for_development_agrees_with_the_others() -> None:
    others = pins("runtime.txt") | pins("otel.txt") | pins("build.txt")
    assert {name: pins("dev.txt").get(name) for name in others} == others


def test_the_npm_lock_has_the_hash_of_every_package_and_the_address_of_none() -> None:
    lock = json.loads((ROOT / "tests/node/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert package["integrity"].startswith("sha512-"), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the repository's files, so that nothing left over from another build is in it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in repository_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        str(tree),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.iterdir()
    return path


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    package = {str(name) for name in repository_files() if name.parts[0] == "hookrelay"}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {"hookrelay/py.typed", "hookrelay/store/schema/0001.sql"} <= package
    assert f"hookrelay-{hookrelay.__version__}.dist-info/licenses/LICENSE" in names


def test_the_version_is_written_in_one_place(wheel: Path) -> None:
    assert wheel.name == f"hookrelay-{hookrelay.__version__}-py3-none-any.whl"
    assert "version" not in PROJECT
    quoted = re.compile(rf"""["']{re.escape(hookrelay.__version__)}["']""")
    files = [name for name in repository_files() if name.suffix in (".py", ".toml") and name.parts[0] != "tests"]
    assert [str(name) for name in files if quoted.search((ROOT / name).read_text())] == ["hookrelay/__init__.py"]


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skipped_test_fails_a_run_of_record_and_no_other(tmp_path: Path, ci: str, code: int) -> None:
    for name in ("conftest.py", "processes.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_it(): pytest.skip('no node here')\ndef test_other(): ...\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "1 passed, 1 skipped" in ran.stdout.splitlines()[-1]


def test_make_help_names_every_target_that_a_person_calls() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = set(re.findall(r"^  make (\S+)", shown.stdout, re.MULTILINE))
    assert {"demo", "test", "lint", "bench", "bench-setup", "venv", "lock", "clean", "help"} <= named


def test_tests_start_processes_in_one_way_by_which_each_ends_with_its_test() -> None:
    allowed = ROOT / "tests/processes.py"
    started = re.compile(r"(?<!-> )\bsubprocess\.Popen\(|\bPopen\(")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path != allowed and "node_modules" not in path.parts
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if started.search(text) and "re.compile" not in text
    ]
    assert found == []
