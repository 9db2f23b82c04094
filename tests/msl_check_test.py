#!/usr/bin/env python3
"""The checker of kernels finds every mistake of tests/msl/rejected/, and nothing else.

A line with a mistake says so: // error: part of the message
"""

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "msl"))

import check
import lint_text
import msl_text

CLANG = check.find_clang()
REJECTED = ROOT / "tests" / "msl" / "rejected"


def expected(path):
    """{line: part of the message} of the marked lines."""
    marked = {}
    for number, line in enumerate(path.read_text().split("\n"), 1):
        found = re.search(r"// error: (.*)", line)
        if found:
            marked[number] = found[1]
    return marked


class CheckTest(unittest.TestCase):
    def check(self, path, findings):
        messages = {}
        for file, line, message in findings:
            self.assertEqual(Path(file).name, path.name, message)
            messages.setdefault(line, []).append(message)
        marked = expected(path)
        self.assertTrue(marked)
        for line, part in marked.items():
            with self.subTest(f"{path.name}:{line}"):
                self.assertIn(part, "; ".join(messages.get(line, ["nothing was found"])))
        for line in messages.keys() - marked.keys():
            self.fail(f"{path.name}:{line}: unexpected: {messages[line]}")

    def test_clang_sees_address_spaces(self):
        path = REJECTED / "address_spaces.metal"
        self.check(path, check.check([path], CLANG))

    def test_clang_sees_types_and_names(self):
        path = REJECTED / "language.metal"
        self.check(path, check.check([path], CLANG))

    def test_lints_replace_what_opencl_allows(self):
        path = REJECTED / "generic_space.metal"
        self.check(path, check.check([path], CLANG))

    def test_lints_of_the_text(self):
        path = REJECTED / "text.metal"
        text = msl_text.expand(path)
        findings = [(*msl_text.locate(text, at), message) for at, message in lint_text.lint_text(text)]
        self.check(path, findings)

    def test_right_kernels_have_no_findings(self):
        for path in sorted((ROOT / "tests" / "msl").glob("*.metal")):
            self.assertEqual(check.check([path], CLANG), [])

    def test_the_real_kernels_have_no_findings(self):
        paths = sorted((ROOT / "kernels").rglob("*.metal"))
        self.assertTrue(paths)
        self.assertEqual(check.check(paths, CLANG), [])


if __name__ == "__main__":
    if not CLANG:
        print(f"skipped: no clang {check.OLDEST_CLANG} or newer")
        sys.exit(77)
    unittest.main()
