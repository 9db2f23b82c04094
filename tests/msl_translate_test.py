#!/usr/bin/env python3
"""The translator: kernels bind themselves, lines stay where they are, headers are pasted once."""

import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "msl"))

import msl_text
import translate


class TranslateTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        path = Path(self.folder.name, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def translated(self, text):
        return translate.translate(text).split("\n")

    def test_parameters_become_default_arguments(self):
        lines = self.translated(
            "kernel void add(device const float* x [[buffer(0)]], constant P& p [[ buffer( ONE ) ]],\n"
            "                threadgroup float* s [[threadgroup(0)]],  // a, comment)\n"
            "                uint2 at [[thread_position_in_grid]]) { x[0]; }\n"
        )
        self.assertEqual(
            lines[:3],
            [
                "kernel void add(device const float* x MSL_BUFFER(0), constant P& p MSL_BUFFER(ONE),",
                "                threadgroup float* s MSL_GROUP_MEMORY(0),  // a, comment)",
                "                uint2 at MSL_BUILTIN(thread_position_in_grid)) { x[0]; }",
            ],
        )
        self.assertIn("MSL_ENTRY(add, 2, (), add)", lines)

    def test_kernel_templates_are_entered_where_they_are_instantiated(self):
        lines = self.translated(
            "template <class A, int N>\nkernel void f(device A* x [[buffer(0)]]) {}\n"
            'template [[host_name("f_half")]] kernel\n  decltype(f<half, 2>) f<half, 2>;\n'
        )
        self.assertEqual(lines[2:4], ["", ""])
        self.assertIn("MSL_ENTRY(f_half, 1, (), f<half, 2>)", lines)
        self.assertFalse(any("MSL_ENTRY(f," in line for line in lines))

    def test_other_instantiations_are_errors(self):
        with self.assertRaisesRegex(msl_text.TextError, "file.metal:4: write an instantiation as"):
            translate.translate(
                '#line 3 "file.metal"\ntemplate <class A> kernel void f(device A* x [[buffer(0)]]) {}\n'
                'template [[host_name("f")]] kernel void f<half>(device half* x);\n'
            )
        with self.assertRaisesRegex(msl_text.TextError, "g<half> is not a kernel of this file"):
            translate.translate('template [[host_name("g")]] kernel decltype(g<half>) g<half>;\n')

    def test_a_kernel_uses_the_constants_that_it_reaches(self):
        lines = self.translated(
            "constant uint width [[function_constant(WIDTH)]];\n"
            "constant bool quick [[function_constant(3)]];\n"
            "constant float unused [[function_constant(4)]];\n"
            "#define ROWS (width * 2)\n"
            "struct Adds { uint operator()(uint i) { return i + ROWS; } };\n"
            "static uint rows() { return Adds()(1u); }\n"
            "kernel void a(device uint* x [[buffer(0)]]) { x[0] = rows(); }\n"
            "kernel void b(device uint* x [[buffer(0)]]) { if (quick) x[0] = 1u; }\n"
            "kernel void c(device uint* x [[buffer(0)]]) { x[0] = 1u; }\n"
        )
        self.assertEqual(lines[0], "MSL_FUNCTION_CONSTANT(uint, width, WIDTH)")
        self.assertIn("MSL_ENTRY(a, 1, (MSL_USES(WIDTH)), a)", lines)
        self.assertIn("MSL_ENTRY(b, 1, (MSL_USES(3)), b)", lines)
        self.assertIn("MSL_ENTRY(c, 1, (), c)", lines)
        self.assertIn(
            "MSL_CONSTANT_VALUES(MSL_CONSTANT_VALUE(width, WIDTH) MSL_CONSTANT_VALUE(quick, 3) "
            "MSL_CONSTANT_VALUE(unused, 4))",
            lines,
        )

    def test_group_variables(self):
        lines = self.translated(
            "kernel void a(device float* x [[buffer(0)]]) {\n"
            "  threadgroup float tile[8][N + 1];\n"
            "  threadgroup vec<half, 4> one;\n"
            "  threadgroup float* pointer = tile[0];\n"
            "}\n"
        )
        self.assertEqual(lines[1], "  MSL_GROUP_VARIABLE(tile, [8][N + 1], float);")
        self.assertEqual(lines[2], "  MSL_GROUP_VARIABLE(one, , vec<half, 4>);")
        self.assertEqual(lines[3], "  threadgroup float* pointer = tile[0];")

    def test_headers_are_pasted_once_and_lines_keep_their_numbers(self):
        self.write("inner.h", "#pragma once\nint inner;\n")
        self.write("outer.h", '#pragma once\n#include "inner.h"\nint outer;\n')
        main = self.write(
            "main.metal",
            '#include <metal_stdlib>\n#include "inner.h"\n#include "outer.h"\n'
            '// #include "absent.h"\n/*\n#include "absent.h"\n*/\nint last;\n',
        )
        text = msl_text.expand(main)
        self.assertEqual(text.count("int inner;"), 1)
        self.assertNotIn("metal_stdlib", text)
        for name, file, line in (("inner", "inner.h", 2), ("outer", "outer.h", 3), ("last", "main.metal", 8)):
            where = msl_text.locate(text, text.index(f"int {name};"))
            self.assertEqual((Path(where[0]).name, where[1]), (file, line))

    def test_wrong_includes_are_errors(self):
        path = self.write("a.metal", '\n#include "absent.h"\n')
        with self.assertRaisesRegex(msl_text.TextError, r"a.metal:2: no file .*absent.h"):
            msl_text.expand(path)
        path = self.write("b.metal", "#include <vector>\n")
        with self.assertRaisesRegex(msl_text.TextError, r"b.metal:1: kernels include .* not <vector>"):
            msl_text.expand(path)

    def test_joined_source_has_one_standard_header_and_all_files_in_order(self):
        self.write("shared.h", "int shared;\n")
        paths = [
            self.write(name, f'#include <metal_stdlib>\n#include "shared.h"\nint {name[0]};\n')
            for name in ("b.metal", "a.metal")
        ]
        text = translate.joined_source(paths)
        self.assertTrue(text.startswith("#include <metal_stdlib>\n"))
        self.assertEqual(text.count("#include"), 1)
        self.assertEqual(text.count("int shared;"), 1)
        self.assertLess(text.index("int a;"), text.index("int b;"))

    def test_long_texts_are_cut_into_literals(self):
        literal = translate.cpp_string("x" * 20000)
        self.assertEqual(literal.count('R"msl('), 3)
        self.assertEqual(literal.count("x"), 20000)

    def test_names_of_files_are_words(self):
        self.assertEqual(translate.file_id("kernels/primitives/mat-mul.metal"), "primitives_mat_mul")


if __name__ == "__main__":
    unittest.main()
