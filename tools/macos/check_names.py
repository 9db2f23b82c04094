#!/usr/bin/env python3
"""Compares the names and values of Metal that C++ code uses with those that Apple published.

usage: check_names.py NAMES SOURCE...

Linking proves nothing about Objective-C: a selector is a string. NAMES is the unpacked package with
the lists. Checked are selectors (send<"...">, responds_to<"...">, selector<"...">), classes (kClass,
class_named) and enumerations: `enum class X : UInteger { A = 1 }` is Apple's MTLX; where Apple's name
is another, the line ends with it: `// MTLCommandEncoderErrorState`.
"""

import re
import sys
from pathlib import Path

BINARY = "build/RelWithDebInfo/NativeScript.apple.node/macos-arm64/NativeScript.framework/Versions/*/NativeScript"


class Published:
    def __init__(self, folder):
        folder = Path(folder)
        # Selectors with their colons, as words of the binary that holds the runtime's metadata.
        words = next(folder.glob(BINARY)).read_bytes().split(b"\0")
        self.words = {word.decode("ascii", "replace") for word in words if 0 < len(word) < 200}
        texts = [(folder / "types" / f"{name}.d.ts").read_text() for name in ["Metal", "Foundation", "Runtime"]]
        self.text = "\n".join(texts)
        self.members = set(re.findall(r"^\s+(?:static |get |set |readonly )*(\w+)\??[<(:]", self.text, re.M))
        self.classes = set(re.findall(r"^declare class (\w+)", self.text, re.M))
        self.enums = {
            name: {key: int(value) for key, value in re.findall(r"(\w+): (-?\d+),", body)}
            for name, body in re.findall(r"^declare const (\w+): \{(.*?)^\};", self.text, re.M | re.S)
        }

    def has_selector(self, selector):
        """Both lists know it: the one with colons, and the one of Metal's and Foundation's classes."""
        parts = selector.rstrip(":").split(":")
        member = parts[0] + "".join(part[0].upper() + part[1:] for part in parts[1:])
        return selector in self.words and (member in self.members or self.is_setter(member))

    def is_setter(self, member):
        name = member.removeprefix("set")
        return name != member and name[:1].lower() + name[1:] in self.members


# What every object understands, which the lists of classes leave out.
ROOT_SELECTORS = {"alloc", "init", "retain", "release", "autorelease", "respondsToSelector:"}
# In Metal since macOS 10.11, but left out of the lists, whose names have no colons: there it is the
# same as setBuffer:offset:atIndex:.
LOST_SELECTORS = {"setBufferOffset:atIndex:"}


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def value_of(expression):
    if not re.fullmatch(r"[\w\s()+*<|]+", expression):
        raise ValueError(expression)
    return eval(expression, {"__builtins__": {}})  # only numbers and operators: see above


def check_enums(path, text, published):
    for match in re.finditer(r"enum class (\w+) : U?Integer \{([^}]*)\};?[ \t]*(?://[ \t]*(MTL\w+))?", text):
        name = match.group(3) or "MTL" + match.group(1)
        where = f"{path}:{line_of(text, match.start())}"
        if name not in published.enums:
            yield f"{where}: Apple has no enumeration {name}"
            continue
        entries = [entry for entry in without_comments(match.group(2)).split(",") if entry.strip()]
        for entry in entries:
            key, _, expression = (part.strip() for part in entry.partition("="))
            if not expression:
                yield f"{where}: {name}.{key} needs its value written"
            elif key not in published.enums[name]:
                yield f"{where}: {name} has no {key}"
            elif value_of(expression) != published.enums[name][key]:
                yield f"{where}: {name}.{key} is {published.enums[name][key]}, not {expression}"


def check_file(path, published):
    """Findings, and how many names were compared."""
    text = Path(path).read_text()
    code = without_comments(text)
    findings, count = [], 0
    for match in re.finditer(r'\b(?:send|responds_to|selector)<\s*"([^"]+)"', code):
        count += 1
        selector = match.group(1)
        if selector not in ROOT_SELECTORS | LOST_SELECTORS and not published.has_selector(selector):
            findings.append(f"{path}:{line_of(code, match.start())}: Apple has no selector '{selector}'")
    for match in re.finditer(r'\b(?:kClass = |class_named\()"(\w+)"', code):
        count += 1
        if match.group(1) not in published.classes:
            findings.append(f"{path}:{line_of(code, match.start())}: Apple has no class {match.group(1)}")
    count += len(re.findall(r"enum class", code))
    findings += check_enums(path, text, published)
    return findings, count


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    published = Published(arguments[0])
    total = 0
    all_findings = []
    for path in arguments[1:]:
        findings, count = check_file(path, published)
        all_findings += findings
        total += count
    for finding in all_findings:
        print(f"error: {finding}", file=sys.stderr)
    if total == 0:
        sys.exit("error: no name of Metal was found to check")
    print(f"{total} selectors, classes and enumerations compared with Apple's")
    sys.exit(1 if all_findings else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
