#!/usr/bin/env python3
"""Translates Metal Shading Language to C++ for the dialect header (include/metal_stdlib).

usage: translate.py FILE.metal OUTPUT.cpp     one file, for a C++ compiler
       translate.py --source FILE... OUTPUT   all files as one text, for Metal's compiler
       translate.py --embed FILE... OUTPUT.cpp  that text as gander::gpu::kernel_source()
       translate.py --table FILE... OUTPUT.cpp  gander::msl::link_kernels(), which names them all

A kernel binds itself: the attribute of a parameter becomes its default argument,
`uint lane [[thread_index_in_simdgroup]]` turns into `uint lane MSL_BUILTIN(thread_index_in_simdgroup)`.
"""

import re
import sys
from pathlib import Path

import msl_text


def newlines(text):
    return "\n" * text.count("\n")


def parameter_binding(parameter):
    if parameter.attribute == "buffer":
        return f"MSL_BUFFER({parameter.index})"
    if parameter.attribute == "threadgroup":
        return f"MSL_GROUP_MEMORY({parameter.index})"
    return f"MSL_BUILTIN({parameter.attribute})"


def apply_edits(text, edits):
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + newlines(text[start:end]) + text[end:]
    return text


def translate(text):
    """C++ for expanded MSL text, without the include of the dialect header."""
    blanked = msl_text.blank_comments(text)
    constants = msl_text.function_constants(blanked)
    kernels = msl_text.kernels(blanked)
    instantiations = msl_text.instantiations(text, blanked)

    edits = []
    for kernel in kernels:
        for parameter in kernel.parameters:
            if parameter.attribute:
                edits.append((parameter.start, parameter.end, parameter_binding(parameter)))
    for entry in instantiations:
        edits.append((entry.start, entry.end, ""))
    for constant in constants:
        replacement = f"MSL_FUNCTION_CONSTANT({constant.type}, {constant.name}, {constant.index})"
        edits.append((constant.start, constant.end, replacement))
    for variable in msl_text.group_variables(blanked):
        replacement = f"MSL_GROUP_VARIABLE({variable.name}, {variable.dimensions}, {variable.type});"
        edits.append((variable.start, variable.end, replacement))

    declared = msl_text.declarations(blanked)
    by_name = {kernel.name: kernel for kernel in kernels}
    entries = [(kernel.name, kernel.name, kernel) for kernel in kernels if not kernel.template]
    for entry in instantiations:
        function = re.match(r"\w+", entry.function)
        if not function or function.group(0) not in by_name:
            file, line = msl_text.locate(text, entry.start)
            raise msl_text.TextError(f"{file}:{line}: {entry.function} is not a kernel of this file")
        entries.append((entry.name, entry.function, by_name[function.group(0)]))

    values = " ".join(f"MSL_CONSTANT_VALUE({c.name}, {c.index})" for c in constants)
    tail = [f"MSL_CONSTANT_VALUES({values})"]
    for name, function, kernel in entries:
        words = msl_text.mentioned_by(declared, kernel.name)
        words |= set(re.findall(r"\w+", function))
        for word in list(words):
            words |= msl_text.mentioned_by(declared, word)
        used = " ".join(f"MSL_USES({c.index})" for c in constants if c.name in words)
        buffers = sum(parameter.attribute == "buffer" for parameter in kernel.parameters)
        tail.append(f"MSL_ENTRY({name}, {buffers}, ({used}), {function})")
    return apply_edits(text, edits) + "\n".join(tail) + "\n"


def file_id(path):
    """A word that names a .metal file in C++."""
    return re.sub(r"\W", "_", "_".join(Path(path).with_suffix("").parts[-2:]))


def translate_file(path):
    text = translate(msl_text.expand(path))
    headers = ["<metal_stdlib>"]
    if msl_text.EXTENSIONS in Path(path).read_text():
        headers.append(msl_text.EXTENSIONS)
    includes = "".join(f"#include {header}\n" for header in headers)
    return f"{includes}MSL_BEGIN_FILE\n{text}MSL_END_FILE({file_id(path)})\n"


def joined_source(paths):
    pasted = set()
    texts = [msl_text.expand(path, pasted) for path in sorted(paths)]
    return "#include <metal_stdlib>\n" + "".join(texts)


def cpp_string(text):
    """The text as raw string literals, short enough for every compiler."""
    pieces = [text[i : i + 8000] for i in range(0, len(text), 8000)]
    return "\n".join(f'    R"msl({piece})msl"' for piece in pieces) or '""'


def embedded_source(paths):
    return (
        '#include "backend/gpu/kernel_source.h"\n\n'
        "namespace gander::gpu {\n\n"
        f"std::string_view kernel_source() {{\n  return\n{cpp_string(joined_source(paths))};\n}}\n\n"
        "}  // namespace gander::gpu\n"
    )


def kernel_table(paths):
    names = [f"gander_kernels_{file_id(path)}" for path in sorted(paths)]
    declared = "".join(f'extern "C" void {name}();\n' for name in names)
    calls = "".join(f"  {name}();\n" for name in names)
    return (
        '#include "backend/gpu/emulated/machine.h"\n\n'
        f"{declared}\nvoid gander::msl::link_kernels() {{\n{calls}}}\n"
    )


def main(arguments):
    modes = {"--source": joined_source, "--embed": embedded_source, "--table": kernel_table}
    if arguments and arguments[0] in modes:
        make, files, output = modes[arguments[0]], arguments[1:-1], arguments[-1]
    elif len(arguments) == 2:
        make, files, output = lambda paths: translate_file(paths[0]), arguments[:1], arguments[1]
    else:
        sys.exit(__doc__)
    try:
        text = make(files)
    except (msl_text.TextError, OSError) as error:
        sys.exit(f"error: {error}")
    if output == "-":
        sys.stdout.write(text)
    else:
        Path(output).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
