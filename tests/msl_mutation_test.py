#!/usr/bin/env python3
"""How many wrong address spaces in the real kernels does the checker reject?

Every qualifier of kernels/ can be deleted or turned into each of the others; a fixed sample of these
mutants is checked. Left out is what is legal Metal by its form: a bound buffer that is only read may
be in device or constant memory. Survivors are printed: they are other legal forms, or what the
checker misses.

usage: msl_mutation_test.py [--all]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "msl"))

import check
import lint_text
import msl_text
import translate

SPACES = ("device", "threadgroup", "constant", "thread")
SAMPLE = 60
REQUIRED = 0.95


def mutants():
    """(expanded text, offset, qualifier, replacement) of every mutant, each place once."""
    seen = set()
    for path in sorted((ROOT / "kernels").rglob("*.metal")):
        text = msl_text.expand(path)
        blanked = msl_text.blank_comments(text)
        for found in re.finditer(rf"(?<!\[\[)\b({'|'.join(SPACES)})\b", blanked):
            if blanked.rfind("#", blanked.rfind("\n", 0, found.start()), found.start()) >= 0:
                continue
            place = (*msl_text.locate(text, found.start()), found.start() - text.rfind("\n", 0, found.start()))
            if place in seen:
                continue
            seen.add(place)
            for replacement in ("", *SPACES):
                if replacement != found[1] and not is_legal(blanked, found, replacement):
                    yield text, found.start(), found[1], replacement


def is_legal(text, found, replacement):
    parameter = text[found.end() : text.index("\n", found.end())]
    if "[[buffer(" not in parameter:
        return False
    if found[1] == "constant":
        return replacement == "device"
    return replacement == "constant" and parameter.lstrip().startswith("const ")


def is_rejected(text, clang):
    if any(lint_text.lint_text(text)):
        return True
    try:
        translated = translate.translate(text)
    except msl_text.TextError:
        return True
    return bool(check.check_with_clang(clang, translated, check.METAL_VERSIONS[0]))


def main():
    clang = check.find_clang()
    if not clang:
        print(f"skipped: no clang {check.OLDEST_CLANG} or newer")
        sys.exit(77)
    everything = list(mutants())
    step = 1 if "--all" in sys.argv else max(1, len(everything) // SAMPLE)
    sample = everything[step // 2 :: step]
    if not sample:
        sys.exit("no qualifiers in kernels/")
    rejected = 0
    for text, at, qualifier, replacement in sample:
        mutant = text[:at] + replacement + text[at + len(qualifier) :]
        if is_rejected(mutant, clang):
            rejected += 1
            continue
        file, line = msl_text.locate(text, at)
        end = mutant.index("\n", at)
        shown = mutant[mutant.rindex("\n", 0, at) + 1 : end].strip()
        print(f"survives: {Path(file).relative_to(ROOT)}:{line}: {qualifier} -> '{replacement}': {shown}")
    print(f"{rejected} of {len(sample)} mutants rejected ({len(everything)} exist)")
    sys.exit(rejected < REQUIRED * len(sample))


if __name__ == "__main__":
    main()
