"""Reads Metal Shading Language as text: includes, kernels, function constants, declarations.

Everything works on offsets into the expanded text, so that edits never move a line.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path


# Functions beyond Metal's, for kernels that run on NVIDIA's GPUs and the emulation only.
EXTENSIONS = "<msl_extensions.h>"


class TextError(Exception):
    """What is wrong, and where: one line."""


@dataclass
class Parameter:
    text: str  # without its attribute: "device const float* x"
    attribute: str  # buffer, threadgroup, thread_index_in_simdgroup, ...; "" when it has none
    index: str  # of a buffer or threadgroup attribute, as written
    start: int  # of the attribute in the text, or the parameter's end
    end: int


@dataclass
class Kernel:
    name: str
    start: int  # of the word `kernel`
    returns: str
    template: bool
    parameters: list


@dataclass
class Instantiation:
    """template [[host_name("name")]] kernel decltype(function<...>) function<...>;"""

    name: str
    function: str  # with its template arguments
    start: int
    end: int


@dataclass
class FunctionConstant:
    type: str
    name: str
    index: str
    start: int
    end: int


@dataclass
class GroupVariable:
    """threadgroup float name[64]; in a kernel."""

    type: str
    name: str
    dimensions: str
    start: int
    end: int


@dataclass
class Declaration:
    """A piece of file scope: a function, struct, variable or macro, and what it mentions."""

    name: str
    start: int
    end: int
    is_function: bool
    mentions: set = field(default_factory=set)


def blank_comments(text):
    """The text with comments and the contents of strings replaced by spaces; lines stay."""

    def blank(match):
        found = match.group(0)
        if found.startswith('"'):
            return '"' + " " * (len(found) - 2) + '"'
        return re.sub(r"[^\n]", " ", found)

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def expand(path, pasted=None):
    """The file's text with local includes pasted in once, and all system includes taken out.

    `pasted` holds the files that are in already. Line numbers are kept by #line.
    """
    pasted = set() if pasted is None else pasted
    path = Path(path)
    pasted.add(path.resolve())
    lines = [f'#line 1 "{path}"']
    source = path.read_text()
    blanked = blank_comments(source).split("\n")
    for number, line in enumerate(source.split("\n"), 1):
        directive = re.match(r"\s*#\s*(include|pragma\s+once)\b", blanked[number - 1])
        if not directive:
            lines.append(line)
            continue
        local = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not local:
            system = re.match(r"\s*#\s*include\s*(<.*>)", line)
            if system and not system[1].startswith("<metal_") and system[1] != EXTENSIONS:
                raise TextError(f"{path}:{number}: kernels include Metal's and their own headers, not {system[1]}")
            lines.append("")
            continue
        header = path.parent / local.group(1)
        if not header.is_file():
            raise TextError(f"{path}:{number}: no file {header}: includes are relative to the file")
        if header.resolve() in pasted:
            lines.append("")
        else:
            lines += [expand(header, pasted).rstrip("\n"), f'#line {number + 1} "{path}"']
    return "\n".join(lines) + "\n"


def locate(text, offset):
    """(file, line) of an offset in expanded text."""
    file, line = "", 0
    for current in text[: offset + 1].split("\n"):
        directive = re.match(r'#line (\d+) "([^"]*)"', current)
        if directive:
            file, line = directive.group(2), int(directive.group(1)) - 1
        else:
            line += 1
    return file, line


def matching(blanked, start):
    """The offset after the bracket that closes the one at `start`."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    open_bracket, close_bracket, depth = blanked[start], pairs[blanked[start]], 0
    for offset in range(start, len(blanked)):
        if blanked[offset] == open_bracket:
            depth += 1
        elif blanked[offset] == close_bracket:
            depth -= 1
            if depth == 0:
                return offset + 1
    raise TextError(f"unbalanced {open_bracket}")


def split_commas(blanked, start, end):
    """(start, end) of the pieces between commas that are in no bracket."""
    pieces, depth, begin = [], 0, start
    for offset in range(start, end):
        character = blanked[offset]
        if character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
        elif character == "," and depth == 0:
            pieces.append((begin, offset))
            begin = offset + 1
    if blanked[begin:end].strip():
        pieces.append((begin, end))
    return pieces


def read_parameter(blanked, start, end):
    attribute = re.search(r"\[\[\s*(\w+)\s*(?:\(\s*(\w+)\s*\))?[^\]]*\]\]", blanked[start:end])
    if not attribute:
        text = blanked[start:end]
        return Parameter(" ".join(text.split()), "", "", start + len(text.rstrip()), start + len(text.rstrip()))
    text = blanked[start : start + attribute.start()] + blanked[start + attribute.end() : end]
    return Parameter(
        " ".join(text.split()),
        attribute.group(1),
        attribute.group(2) or "",
        start + attribute.start(),
        start + attribute.end(),
    )


def kernels(blanked):
    """Kernels that are defined in the text, templates too."""
    found = []
    head = re.compile(r"(?<![\w:])kernel\s+([\w:]+[\s*&]*?)\s*\b(\w+)\s*\(")
    for match in head.finditer(blanked):
        close = matching(blanked, match.end() - 1)
        if not blanked[close:].lstrip().startswith("{"):
            continue
        before = re.sub(r"\[\[[^\]]*\]\]\s*$", "", blanked[: match.start()].rstrip()).rstrip()
        pieces = split_commas(blanked, match.end(), close - 1)
        found.append(
            Kernel(
                match.group(2),
                match.start(),
                match.group(1).strip(),
                bool(re.search(r"\btemplate\s*<[^;{}()]*>$", before)),
                [read_parameter(blanked, *piece) for piece in pieces],
            )
        )
    return found


def instantiations(text, blanked):
    pattern = re.compile(
        r"\btemplate\s*\[\[\s*host_name\(\s*\"(?P<name>[^\"]*)\"\s*\)\s*\]\]\s*"
        r"kernel\s+decltype\((?P<function>[^;]*?)\)\s*(?P<again>[^;]*?)\s*;"
    )
    found = []
    for match in re.finditer(r"\btemplate\s*\[\[\s*host_name\b", blanked):
        whole = pattern.match(text, match.start())
        if not whole or "".join(whole["function"].split()) != "".join(whole["again"].split()):
            file, line = locate(text, match.start())
            raise TextError(
                f"{file}:{line}: write an instantiation as "
                'template [[host_name("name")]] kernel decltype(function<T>) function<T>;'
            )
        found.append(Instantiation(whole["name"], whole["function"], whole.start(), whole.end()))
    return found


def function_constants(blanked):
    pattern = re.compile(
        r"\bconstant\s+(\w+)\s+(\w+)\s*\[\[\s*function_constant\(\s*(\w+)\s*\)\s*\]\]\s*;"
    )
    return [FunctionConstant(*m.groups(), m.start(), m.end()) for m in pattern.finditer(blanked)]


def group_variables(blanked):
    pattern = re.compile(
        r"(?<=[;{}\n])[ \t]*\bthreadgroup\s+([^*&()=;{}]*[\w>])\s+(\w+)\s*((?:\[[^\];]*\]\s*)*);"
    )
    found = []
    for match in pattern.finditer(blanked):
        start = match.start() + len(match.group(0)) - len(match.group(0).lstrip())
        found.append(
            GroupVariable(match.group(1), match.group(2), match.group(3).strip(), start, match.end())
        )
    return found


def declarations(blanked):
    """The declarations of file scope, in order: what lies between `;` and `}` outside brackets."""
    found, begin, depth, offset = [], 0, 0, 0
    while offset < len(blanked):
        character = blanked[offset]
        if character == "#" and not blanked[blanked.rfind("\n", 0, offset) + 1 : offset].strip():
            end = offset
            while True:  # a directive, with its continuation lines
                end = blanked.find("\n", end)
                end = len(blanked) if end < 0 else end
                if end == len(blanked) or blanked[end - 1] != "\\":
                    break
                end += 1
            macro = re.match(r"#\s*define\s+(\w+)", blanked[offset:end])
            if macro:
                found.append(Declaration(macro.group(1), offset, end, False))
            if depth == 0 and not blanked[begin:offset].strip():
                begin = end
            offset = end
            continue
        if character in "({[":
            depth += 1
        elif character in ")}]":
            depth -= 1
        if depth == 0 and character in ";}":
            add_declaration(found, blanked, begin, offset + 1)
            begin = offset + 1
        offset += 1
    for declaration in found:
        words = re.findall(r"\b[A-Za-z_]\w*", blanked[declaration.start : declaration.end])
        declaration.mentions = set(words) - {declaration.name}
    return found


def add_declaration(found, blanked, begin, end):
    text = re.sub(r"\[\[.*?\]\]", lambda m: " " * len(m.group(0)), blanked[begin:end])
    struct = re.match(r"\s*(?:template\s*<[^{}]*?>\s*)?(?:struct|class|enum|union)\s+(\w+)", text)
    if struct:
        found.append(Declaration(struct.group(1), begin, end, False))
        return
    head = re.split(r"[={]", text, maxsplit=1)[0]
    function = re.search(r"(\w+)\s*(?:<[^;{}()]*>)?\s*\(", head)
    if function:
        is_definition = "{" in text
        found.append(Declaration(function.group(1), begin, end, is_definition))
        return
    variable = re.findall(r"\w+", re.sub(r"\[[^\]]*\]", "", head))
    if variable:
        found.append(Declaration(variable[-1], begin, end, False))


def mentioned_by(declared, name):
    """Every name that the declaration `name` mentions, directly or through others."""
    by_name = {}
    for declaration in declared:
        by_name.setdefault(declaration.name, set()).update(declaration.mentions)
    seen, waiting = set(), [name]
    while waiting:
        for word in by_name.get(waiting.pop(), ()):
            if word not in seen:
                seen.add(word)
                waiting.append(word)
    return seen
