#!/usr/bin/env python3
"""Checks kernels as far as that is possible without Apple's compiler.

usage: check.py [FILE.metal...]     all files together, as they are one library; default: kernels/

clang's OpenCL C++ front end sees the kernels with real address spaces; lints add what Apple's
compiler rejects and clang accepts. Prints a finding a line, file:line: message, and exits with 1.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lint_ast
import lint_text
import msl_text
import translate

OLDEST_CLANG = 19
HEADERS = Path(__file__).resolve().parent / "include"
METAL_VERSIONS = (310, 320)

OPTIONS = [
    "-x",
    "clcpp",
    "-cl-std=CLC++2021",
    "-target",
    "spir64",
    "-cl-no-stdinc",
    "-Xclang",
    "-cl-ext=-__opencl_c_program_scope_global_variables,-__opencl_c_device_enqueue",
    "-isystem",
    str(HEADERS),
    "-fsyntax-only",
    "-fno-caret-diagnostics",
    "-ferror-limit=100",
    "-Wno-unused",
    "-Werror=unknown-attributes",
    "-Werror=macro-redefined",
    "-Werror=return-type",
    "-Werror=uninitialized",
    "-Werror=pre-c++17-compat",  # Metal is C++14
]


def find_clang():
    """A clang that is new enough, or nothing."""
    for version in range(30, OLDEST_CLANG - 1, -1):
        found = shutil.which(f"clang-{version}")
        if found:
            return found
    found = shutil.which("clang")
    if found:
        about = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"version (\d+)", about)
        if version and int(version.group(1)) >= OLDEST_CLANG and "Apple" not in about:
            return found
    return None


def is_header(file):
    return str(HEADERS) in file or file.startswith("<")


def check_with_clang(clang, translated, metal_version):
    """clang's errors; when there are none, what its AST shows."""
    with tempfile.NamedTemporaryFile("w", suffix=".cl") as source:
        source.write("#include <metal_stdlib>\n" + translated)
        source.flush()
        command = [clang, *OPTIONS, f"-D__METAL_VERSION__={metal_version}", source.name]
        dump = subprocess.run(
            [*command, "-Xclang", "-ast-dump"], capture_output=True, text=True, errors="replace"
        )
    findings = []
    inside = None  # an error in the dialect header belongs to the kernel line that a note names
    for line in dump.stderr.split("\n"):
        found = re.match(r"(.*?):(\d+):\d+: (fatal error|error|note): (.*)", line)
        if not found:
            continue
        file, number, kind, message = found[1], int(found[2]), found[3], found[4]
        if kind != "note":
            inside = message if is_header(file) else None
            findings.append((file, number, message))
        elif inside and not is_header(file):
            findings[-1] = (file, number, inside)
            inside = None
    # The rest of what clang says about a line that has a finding.
    findings = [f for f in findings if not is_header(f[0])] or findings
    if dump.returncode == 0:
        findings += lint_ast.lint_ast(dump.stdout.split("\n"), is_header)
    elif not findings:
        findings.append(("clang", 0, dump.stderr.strip().split("\n")[-1]))
    return findings


def check(paths, clang):
    """All findings about these files as (file, line, message)."""
    pasted = set()
    text = "".join(msl_text.expand(path, pasted) for path in sorted(paths))
    findings = [(*msl_text.locate(text, at), message) for at, message in lint_text.lint_text(text)]
    translated = translate.translate(text)
    versions = METAL_VERSIONS if "__METAL_VERSION__" in text else METAL_VERSIONS[:1]
    for version in versions:
        findings += check_with_clang(clang, translated, version)
    return sorted(set(findings))


def main(arguments):
    root = Path(__file__).resolve().parent.parent.parent
    paths = arguments or sorted((root / "kernels").rglob("*.metal"))
    if not arguments:
        paths = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in paths]
    clang = find_clang()
    if not clang:
        sys.exit(f"error: no clang {OLDEST_CLANG} or newer: script/bootstrap --dev installs it")
    try:
        findings = check(paths, clang)
    except (msl_text.TextError, OSError) as error:
        sys.exit(f"error: {error}")
    for file, line, message in findings:
        print(f"{file}:{line}: {message}")
    if findings:
        sys.exit(1)
    print(f"{len(paths)} files of kernels: no findings")


if __name__ == "__main__":
    main(sys.argv[1:])
