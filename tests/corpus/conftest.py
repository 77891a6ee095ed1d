"""Small archives of every kind, and a corpus built from them."""

import gzip
import io
import lzma
import shutil
import tarfile
import zipfile

import pytest

from codet5p_jax.corpus.build import build_from_sources
from codet5p_jax.corpus.sources import sources_of_path

MIT = (
    "Permission is hereby granted, free of charge, to any person. "
    "The above copyright notice and this permission notice shall be included.\n"
)


def python_module(name, functions=3):
    """A module of `functions` documented functions, all different from those of other names."""
    return "\n\n".join(
        f"def {name}_{i}(value):\n"
        f'    """Computes number {i} of the series {name}."""\n'
        f"    total = value + {i}\n"
        f"    for step in range({i} + 10):\n"
        f"        total += step * len('{name}')\n"
        f"    return total\n"
        for i in range(functions)
    )


def java_class(name):
    return f"""package a;

public class {name} {{
    /**
     * Returns the size of the {name} in bytes.
     * @return the size
     */
    public int sizeOf{name}() {{
        int size = 4;
        return size * 2;
    }}
}}
"""


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            content = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_deb(path, files, ending=".xz", pack=lzma.compress):
    """A package as dpkg-deb writes it; its control archive has an odd number of bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(b"odd", mtime=0),
        f"data.tar{ending}": pack(data.getvalue()),
    }
    with path.open("wb") as stream:
        stream.write(b"!<arch>\n")
        for name, content in parts.items():
            header = f"{name:<16}{1700000000:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
            stream.write(header.encode() + content + b"\n" * (len(content) % 2))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def write_wheel(directory, name, files, license="MIT", version="1.0"):
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
    metadata += f"License-Expression: {license}\n"
    info = f"{name}-{version}.dist-info"
    directory.mkdir(parents=True, exist_ok=True)
    return write_zip(
        directory / f"{name}-{version}-py3-none-any.whl",
        {
            **{f"{name}/{path}": text for path, text in files.items()},
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        },
    )


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    """Four repositories side by side, of three languages."""
    root = tmp_path_factory.mktemp("repositories")
    for number, name in enumerate(("alpha", "beta", "gamma", "delta")):
        files = {f"{name}/{module}.py": python_module(f"{name}_{module}") for module in "abc"}
        files |= {f"{name}/{name.title()}.java": java_class(name.title()), f"{name}/LICENSE": MIT}
        write_tar(root / f"{name}-1.{number}.tar.gz", files)
    return root


@pytest.fixture(name="write_wheel")
def _write_wheel():
    return write_wheel


@pytest.fixture(name="write_deb")
def _write_deb():
    return write_deb


@pytest.fixture
def fake_programs(tmp_path, monkeypatch):
    """Puts scripts on the path, where else only the shell's own tools are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("cat", "touch", "sh"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(folder))

    def write(**scripts):
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    return write


@pytest.fixture(name="write_tar")
def _write_tar():
    return write_tar


@pytest.fixture
def mit_license():
    return MIT


@pytest.fixture(scope="session")
def corpus(repositories, tmp_path_factory):
    """A corpus of the four repositories."""
    out = tmp_path_factory.mktemp("corpus") / "small"
    build_from_sources(sources_of_path(repositories), out, num_shards=2)
    return out
