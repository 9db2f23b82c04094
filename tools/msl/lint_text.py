"""What Apple's compiler, or this project, does not accept and clang's OpenCL front end does: from the text."""

import re

import msl_text

SCALARS = ("uint", "ushort")
POSITIONS = (*SCALARS, "uint2", "ushort2", "uint3", "ushort3")
BUILTINS = {  # and the types that they may have
    "thread_position_in_grid": POSITIONS,
    "thread_position_in_threadgroup": POSITIONS,
    "threadgroup_position_in_grid": POSITIONS,
    "threads_per_grid": POSITIONS,
    "threads_per_threadgroup": POSITIONS,
    "threadgroups_per_grid": POSITIONS,
    "thread_index_in_threadgroup": SCALARS,
    "thread_index_in_simdgroup": SCALARS,
    "simdgroup_index_in_threadgroup": SCALARS,
    "simdgroups_per_threadgroup": SCALARS,
    "threads_per_simdgroup": SCALARS,
}
MAX_BUFFERS = 31

FORBIDDEN_WORDS = {
    "double": "Metal has no double",
    "goto": "Metal has no goto",
    "virtual": "Metal has no virtual functions",
    "new": "Metal has no dynamic memory",
    "delete": "Metal has no dynamic memory",
    "try": "Metal has no exceptions",
    "throw": "Metal has no exceptions",
    "dynamic_cast": "Metal has no run-time types",
    "typeid": "Metal has no run-time types",
    "asm": "Metal has no assembly",
    "thread_local": "Metal has no thread_local",
    "std": "Metal has no C++ library",
    "register": "Metal has no register variables",
}
# Patterns in the text without comments and strings, and what to say.
FORBIDDEN_PATTERNS = [
    (
        r"\bmsl\s*::|\bMSL_\w*|\b[A-Za-z]\w*_(?!\w)",
        "'{}' looks like a name of the dialect header: Metal has no such thing",
    ),
    (r"\b__(?!METAL_VERSION__|LINE__|FILE__)\w+", "'{}' is not a name for kernels"),
    (r"(?<![\w.])[\d.]+(?:[eE][+-]?\d+)?[hH]\b", "'{}': write half(x), not a half literal"),
    (
        r"(?<![\w.])(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])|(?<![\w.])\d+[eE][+-]?\d+(?![\w.])",
        "'{}' needs the suffix f",
    ),
    (
        r"\(\s*(?:const\s+)?(?!const\b)\w+\s*[*&]+\s*\)(?=\s*[\w(&*])",
        "the cast '{}' needs an address space",
    ),
    (
        r"(?<=[(,])\s*(?:const\s+)?(?:float|half|bool|u?char|u?short|u?int|u?long)[234]?\s*[*&]\s*\w*(?=\s*[,)])",
        "the parameter '{}' needs an address space",
    ),
]


def lint_text(text):
    """Findings as (offset, message) in expanded text."""
    blanked = msl_text.blank_comments(text)
    # Directives that name files are not program text.
    blanked = re.sub(r"^#line[^\n]*", lambda m: " " * len(m.group(0)), blanked, flags=re.M)
    kernels = msl_text.kernels(blanked)
    declared = msl_text.declarations(blanked)
    yield from forbidden(blanked)
    for kernel in kernels:
        yield from lint_signature(kernel)
        yield from lint_bound_structs(kernel, declared)
    yield from lint_instantiations(text, blanked, kernels)
    yield from lint_group_variables(blanked, kernels)


def forbidden(blanked):
    for match in re.finditer(r"\b(" + "|".join(FORBIDDEN_WORDS) + r")\b", blanked):
        yield match.start(), FORBIDDEN_WORDS[match.group(1)]
    for pattern, message in FORBIDDEN_PATTERNS:
        for match in re.finditer(pattern, blanked):
            yield match.start(), message.format(match.group(0))


def lint_signature(kernel):
    if kernel.returns != "void":
        yield kernel.start, f"kernel {kernel.name} returns {kernel.returns}: kernels return void"
    buffers = []
    groups = 0
    for parameter in kernel.parameters:
        at = parameter.start
        if not parameter.attribute:
            yield at, f"parameter '{parameter.text}' has no attribute"
        elif parameter.attribute == "buffer":
            buffers.append(parameter)
            if not re.search(r"\b(device|constant)\b", parameter.text):
                yield at, f"buffer '{parameter.text}' needs device or constant"
        elif parameter.attribute == "threadgroup":
            groups += 1
            if not re.search(r"\bthreadgroup\b", parameter.text):
                yield at, f"'{parameter.text}' needs threadgroup"
            if parameter.index != "0" or groups > 1:
                yield at, "one thread-group pointer a kernel, at [[threadgroup(0)]]"
        elif parameter.attribute not in BUILTINS:
            yield at, f"unknown attribute [[{parameter.attribute}]]"
        elif parameter.text.split()[0] not in BUILTINS[parameter.attribute]:
            types = ", ".join(BUILTINS[parameter.attribute])
            yield at, f"'{parameter.text}': [[{parameter.attribute}]] is one of {types}"
    for expected, parameter in enumerate(buffers):
        if parameter.index != str(expected):
            yield parameter.start, (
                f"'{parameter.text}' is [[buffer({parameter.index})]], expected {expected}: "
                "buffers are numbered in the order of the parameters"
            )
    if len(buffers) > MAX_BUFFERS:
        yield kernel.start, f"kernel {kernel.name} has {len(buffers)} buffers, Metal allows 31"


def lint_bound_structs(kernel, declared):
    """A buffer may hold device pointers (an argument buffer), not those of a thread or group."""
    structs = {d.name: d for d in declared if not d.is_function and d.mentions}
    for parameter in kernel.parameters:
        if parameter.attribute != "buffer":
            continue
        waiting = [w for w in re.findall(r"\w+", parameter.text) if w in structs]
        seen = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for space in sorted({"thread", "threadgroup"} & structs[name].mentions):
                yield parameter.start, f"buffer '{parameter.text}': {name} has a {space} pointer"
            waiting += [word for word in structs[name].mentions if word in structs]


def lint_instantiations(text, blanked, kernels):
    names = {}
    used = set()
    for entry in msl_text.instantiations(text, blanked):
        used.add(re.match(r"\w+", entry.function).group(0))
        names.setdefault(entry.name, []).append(entry.start)
    for kernel in kernels:
        if not kernel.template:
            names.setdefault(kernel.name, []).append(kernel.start)
        elif kernel.name not in used:
            yield kernel.start, f"kernel template {kernel.name} is never instantiated"
    for name, places in names.items():
        for place in places[1:]:
            yield place, f"there is another kernel {name}"


def lint_group_variables(blanked, kernels):
    bodies = []
    for kernel in kernels:
        brace = blanked.index("{", msl_text.matching(blanked, blanked.index("(", kernel.start)))
        bodies.append((brace, msl_text.matching(blanked, brace)))
    for variable in msl_text.group_variables(blanked):
        if not any(begin < variable.start < end for begin, end in bodies):
            yield variable.start, f"threadgroup variable {variable.name} outside a kernel"
