"""ONNX Runtime Web, which lets browsers run the decoder: fetched once from the npm registry, checked, kept in a cache.

It is MIT-licensed work of others and 41 MB large, so it is no part of this package. Where it comes from is npm's own
business: `npm pack` asks the registry that npm is configured for; without Node, the registry of NPM_CONFIG_REGISTRY is
asked directly, or a downloaded tarball is named by SAM_ENGINE_ORT_WEB. Only files with the known hashes are served.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

VERSION = "1.30.0"
PACKAGE = "onnxruntime-web"
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""File of the package's `dist` folder -> SHA-256."""
CACHE_VARIABLE, TARBALL_VARIABLE, REGISTRY_VARIABLE = "SAM_ENGINE_CACHE", "SAM_ENGINE_ORT_WEB", "NPM_CONFIG_REGISTRY"
_SECONDS = 120


class AssetError(OSError):
    """ONNX Runtime Web could not be had; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A folder that holds the files, hashes checked."""

    folder: Path


def find_runtime() -> Runtime:
    """ONNX Runtime Web out of the cache, fetched first if it is not there. Raises AssetError."""
    folder = _cache() / f"{PACKAGE}-{VERSION}"
    if not _is_whole(folder):
        print(f"getting {PACKAGE} {VERSION}, which browsers decode with (41 MB, once)", file=sys.stderr, flush=True)
        _unpack(_tarball(), folder)
    return Runtime(folder)


def _cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sam-engine"
    return Path(os.environ.get(CACHE_VARIABLE) or default)  # an empty one is none, not the folder one stands in


def _is_whole(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and _sha256((folder / name).read_bytes()) == digest
        for name, digest in RUNTIME_FILES.items()
    )


def _tarball() -> bytes:
    """The package as npm packs it."""
    if given := os.environ.get(TARBALL_VARIABLE):
        return Path(given).read_bytes()
    if shutil.which("npm"):
        return _by_npm()
    if registry := os.environ.get(REGISTRY_VARIABLE):
        return _by_http(registry)
    raise AssetError(
        f"{PACKAGE} {VERSION} is not in {_cache()}: install npm, or set {REGISTRY_VARIABLE} to an npm registry, "
        f"or {TARBALL_VARIABLE} to the tarball {PACKAGE}-{VERSION}.tgz"
    )


def _by_npm() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS, cwd=folder)
            return next(Path(folder).glob("*.tgz")).read_bytes()
        except (subprocess.SubprocessError, StopIteration) as error:
            raise AssetError(f"npm could not fetch {PACKAGE} {VERSION}: {type(error).__name__}") from error


def _by_http(registry: str) -> bytes:
    address = f"{registry.rstrip('/')}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    if not address.startswith("https://"):
        raise AssetError(f"{REGISTRY_VARIABLE} must be an https address")
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as response:
            return bytes(response.read())
    except OSError as error:
        raise AssetError(f"{REGISTRY_VARIABLE} did not give {PACKAGE} {VERSION}: {error}") from error


def _unpack(tarball: bytes, folder: Path) -> None:
    """Write the wanted files of the package, none of which is trusted before its hash is known."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in RUNTIME_FILES.items():
        data = _member(tarball, f"package/dist/{name}")
        if _sha256(data) != digest:
            raise AssetError(f"{name} of {PACKAGE} {VERSION} is not the file that was tested: hash {_sha256(data)}")
        partial = folder / f".{name}.{os.getpid()}"
        partial.write_bytes(data)
        partial.replace(folder / name)


def _member(tarball: bytes, name: str) -> bytes:
    """A file in a tarball. Raises AssetError when it has none of that name, or is no tarball."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
            member = archive.extractfile(name)
            return member.read() if member else b""
    except (tarfile.TarError, KeyError) as error:
        raise AssetError(f"the package of {PACKAGE} {VERSION} holds no {name}: {error}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
