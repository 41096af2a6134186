"""Print the licences of the libraries that hookrelay is handed out with: python scripts/licenses.py LOCK..."""

import re
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)[^/]*$", re.IGNORECASE)


def texts(name: str) -> tuple[str, list[str]]:
    """What a library is called with its version and licence, and the texts that it brings."""
    found = distribution(name)
    files = [path for path in found.files or [] if ".dist-info" in str(path) and LICENCE.search(str(path))]
    said = found.metadata.get("License-Expression") or found.metadata.get("License", "").partition("\n")[0]
    title = f"{found.metadata['Name']} {found.version}" + (f" ({said})" if said else "")
    return title, [Path(str(found.locate_file(path))).read_text(errors="replace").strip() for path in files]


def main(locks: list[str]) -> None:
    names = sorted({name for lock in locks for name in PIN.findall(Path(lock).read_text())}, key=str.lower)
    for name in names:
        try:
            title, found = texts(name)
        except PackageNotFoundError:  # for another Python
            continue
        print(f"{'=' * 100}\n{title}\n", *found, sep="\n\n")
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if python.exists():
        print(f"{'=' * 100}\nPython {sys.version.split()[0]}\n", python.read_text().strip(), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
