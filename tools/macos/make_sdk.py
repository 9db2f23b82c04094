#!/usr/bin/env python3
"""Makes a folder that stands for the macOS SDK, enough to compile and link gander on Linux.

usage: make_sdk.py CACHE SDK

CACHE holds the packages that script/check-macos fetched, unpacked:
  zig/        Darwin's C headers and the list of what libSystem exports
  names/      the names of macOS's Objective-C classes, functions and constants
  libcxx/     libc++ 16, the version in Xcode 15 and macOS 14: headers and shared libraries
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

# Later folders replace files of earlier ones.
HEADERS = ["any-macos-any", "any-macos.13-any", "aarch64-macos.13-none"]

# Functions of the compilers' ABI for automatic reference counting, in no header.
ARC_FUNCTIONS = ["objc_autoreleasePoolPush", "objc_autoreleasePoolPop", "objc_retain", "objc_release"]

# Headers of these Debian packages are the same on all systems.
PORTABLE_HEADERS = [
    "fmt", "nlohmann", "CLI", "spdlog", "boost", "xxhash.h", "editline", "histedit.h",
]

FRAMEWORK = "/System/Library/Frameworks/{0}.framework/Versions/{1}/{0}"


def write_stub(path, install_name, symbols):
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(sorted(symbols))
    path.write_text(
        "--- !tapi-tbd\n"
        "tbd-version: 4\n"
        "targets: [ arm64-macos ]\n"
        f"install-name: '{install_name}'\n"
        "exports:\n"
        "  - targets: [ arm64-macos ]\n"
        f"    symbols: [ {listed} ]\n"
        "...\n"
    )


def declared(names, header, prefix=""):
    """Functions and constants that a framework's header declares."""
    text = (names / "types" / header).read_text()
    found = re.findall(rf"^declare (?:function|const) ({prefix}\w+)(?:\(|: \w+;)", text, re.M)
    return {"_" + name for name in found}


def exported(library):
    """What an ELF shared library exports, by the names it has on macOS."""
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", library],
        check=True, capture_output=True, text=True,
    ).stdout
    names = {line.split()[0].split("@")[0] for line in listed.splitlines()}
    return {"_" + name for name in names}


def make_sdk(cache, sdk):
    shutil.rmtree(sdk, ignore_errors=True)
    include = sdk / "usr/include"
    for folder in HEADERS:
        shutil.copytree(cache / "zig/lib/libc/include" / folder, include, dirs_exist_ok=True)
    shutil.copytree(next((cache / "libcxx").glob("usr/lib/llvm-*/include/c++/v1")), include / "c++/v1")
    for name in PORTABLE_HEADERS:
        (include / name).symlink_to(Path("/usr/include") / name)

    libraries = sdk / "usr/lib"
    libraries.mkdir()
    shutil.copy(cache / "zig/lib/libc/darwin/libSystem.13.tbd", libraries / "libSystem.tbd")
    cxx = set()
    for library in ["libc++.so.1.0", "libc++abi.so.1.0"]:
        cxx |= exported(next((cache / "libcxx").rglob(library)))
    # What waits on an atomic is an int on Linux and 64 bits on Darwin, in the names of two functions.
    cxx |= {re.sub(r"(__libcpp_atomic_wait|__libcpp_atomic_notify)(\w*)EPVKvi$", r"\1\2EPVKvx", name) for name in cxx}
    write_stub(libraries / "libc++.tbd", "/usr/lib/libc++.1.dylib", cxx)
    edit = next(Path("/usr/lib").glob("*-linux-gnu/libedit.so"))
    write_stub(libraries / "libedit.tbd", "/usr/lib/libedit.3.dylib", exported(edit))

    names = cache / "names"
    runtime = declared(names, "Runtime.d.ts", "(?:objc_|sel_|object_|class_)")
    runtime |= {"_" + name for name in ARC_FUNCTIONS}
    write_stub(libraries / "libobjc.tbd", "/usr/lib/libobjc.A.dylib", runtime)
    for name, version in [("Metal", "A"), ("Foundation", "C")]:
        stub = sdk / f"System/Library/Frameworks/{name}.framework/{name}.tbd"
        write_stub(stub, FRAMEWORK.format(name, version), declared(names, f"{name}.d.ts"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    make_sdk(Path(sys.argv[1]), Path(sys.argv[2]))
