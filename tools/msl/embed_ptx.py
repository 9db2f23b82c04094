#!/usr/bin/env python3
"""Makes a C++ file of PTX files: gander::gpu::cuda::kernel_modules().

usage: embed_ptx.py FILE.ptx... OUTPUT.cpp
"""

import sys
from pathlib import Path

import translate


def without_comments(text):
    """Comments are a third of what the compiler writes, and nobody reads them here."""
    lines = (line.split("//")[0].rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    modules = [without_comments(Path(path).read_text()) for path in arguments[:-1]]
    # The suffix saves the compiler from counting a megabyte of characters.
    strings = ",\n\n".join(f"{translate.cpp_string(text)}sv" for text in modules)
    Path(arguments[-1]).write_text(
        '#include "backend/gpu/cuda/ptx.h"\n\n'
        "#include <array>\n\n"
        "namespace gander::gpu::cuda {\n\n"
        "using namespace std::string_view_literals;\n\n"
        "std::span<const std::string_view> kernel_modules() {\n"
        f"  static constexpr std::array<std::string_view, {len(modules)}> modules = {{\n{strings}}};\n"
        "  return modules;\n}\n\n"
        "}  // namespace gander::gpu::cuda\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
