"""What clang's OpenCL front end accepts and Apple's compiler does not: from clang's AST dump.

OpenCL gives a pointer without an address space the generic one, and lets member functions work on
objects anywhere; Metal has no generic address space.
"""

import re
from dataclasses import dataclass, field

MAX_GROUP_BYTES = 32768
SPACES = ("__global", "__local", "__constant", "__private")
BUILTIN_OBJECT = re.compile(
    r"\bmetal::|\b(packed_)?(bool|u?char|u?short|u?int|u?long|half|float)[234]\b"
)


@dataclass
class Node:
    depth: int
    kind: str
    address: str
    file: str
    line: int
    text: str


@dataclass
class Function:
    name: str
    file: str
    line: int
    calls: set = field(default_factory=set)
    group_bytes: int = 0


def nodes(dump):
    """The dump's lines, with the place that each is about: places are printed where they change."""
    node = re.compile(r"^([\s|`-]*)(\w+) (0x[0-9a-f]+)")
    place = re.compile(r"(?<![\w>])([^\s<>:,']+):(\d+):\d+")
    file, line = "", 0
    for text in dump:
        # A type may name a place of its own: (lambda at file:1:2)
        for found in place.finditer(re.sub(r"'[^']*'", "''", text)):
            file = file if found[1] == "line" else found[1]
            line = int(found[2])
        found = node.match(text)
        if found:
            yield Node(len(found[1]), found[2], found[3], file, line, text)
        else:
            value = re.match(r"^([\s|`-]*)value: Int (\d+)", text)
            if value:
                yield Node(len(value[1]), "value", value[2], file, line, text)


def without_template_arguments(type_name):
    shorter = re.sub(r"<[^<>]*>", "", type_name)
    return shorter if shorter == type_name else without_template_arguments(shorter)


def lacks_space(type_name):
    """True when a * or & of the type points to memory of no named address space."""
    plain = re.sub(r"__private\s*(\[[^\]]*\])*$", "", without_template_arguments(type_name))
    pointees = re.findall(r"([^*&()]+)(?=[*&])", plain)
    return any(not any(space in pointee for space in SPACES) for pointee in pointees)


def lint_variable(node, in_function):
    declared = re.search(
        r"(?<![\w'])(?!used |referenced |invalid )([A-Za-z_]\w*) '([^']*)'(?::'([^']*)')?", node.text
    )
    if declared and " implicit " not in node.text:
        type_name = declared[3] or declared[2]
        if lacks_space(type_name):
            yield node, f"'{declared[1]}' needs an address space: {type_name}"
    if node.kind == "VarDecl" and in_function and " static" in node.text:
        yield node, "Metal has no static variables in functions"


def lint_ast(dump, is_header):
    """Findings as (file, line, message); `dump` are the lines of -ast-dump."""
    functions, first = {}, {}  # by address; a redeclaration's address to the first one's
    enclosing = []  # (depth, function) around the node
    waits_for_size = False  # of a threadgroup variable
    call = None  # the member that the node's parent calls
    converted = False  # and its object has changed address space
    findings = []
    for node in nodes(dump):
        while enclosing and enclosing[-1][0] >= node.depth:
            enclosing.pop()
        function = enclosing[-1][1] if enclosing else None
        if node.kind in ("FunctionDecl", "CXXMethodDecl", "CXXConversionDecl"):
            enclosing.append((node.depth, declare(node, functions, first)))
        elif function and node.kind in ("DeclRefExpr", "MemberExpr"):
            called = re.search(r"\b(?:Function|CXXMethod) (0x[0-9a-f]+)", node.text)
            called = called or re.search(r"[.>]\S+ (0x[0-9a-f]+)$", node.text)
            function.calls |= {called[1]} if called else set()
        elif function and node.kind == "EnumConstantDecl":
            waits_for_size = bool(re.search(r"\w_bytes_ '", node.text))
        elif function and node.kind == "value" and waits_for_size:
            function.group_bytes += int(node.address)
            waits_for_size = False
        if is_header(node.file):
            continue
        if node.kind in ("ParmVarDecl", "VarDecl", "FieldDecl"):
            findings += lint_variable(node, function)
        elif node.kind == "LambdaExpr":
            findings.append((node, "a lambda: pass a functor"))
        elif node.kind == "MemberExpr":
            bound = re.search(r"'<bound member function type>' (?:->|\.)(\S+)", node.text)
            call, converted = bound and bound[1], False
        elif call and "<AddressSpaceConversion>" in node.text:
            converted = True
        elif call and converted:
            space = re.search(r"'[^']*__(global|local|constant)\b[^']*'", node.text)
            if space and not BUILTIN_OBJECT.search(space[0]):
                findings.append((node, f"{call}() is not declared for an object in {space[1]} memory"))
            call = None
    findings += lint_group_memory(functions)
    findings += lint_recursion(functions, first)
    return [(at.file, at.line, message) for at, message in findings if not is_header(at.file)]


def declare(node, functions, first):
    previous = re.search(r" prev (0x[0-9a-f]+)", node.text)
    first[node.address] = first.get(previous[1], previous[1]) if previous else node.address
    name = re.search(r"(operator\S*|\w+) '[^']*\(", node.text)
    function = Function(name[1] if name else "?", node.file, node.line)
    return functions.setdefault(first[node.address], function)


def lint_group_memory(functions):
    for function in functions.values():
        if function.group_bytes > MAX_GROUP_BYTES:
            yield function, (
                f"{function.name} declares {function.group_bytes} bytes of threadgroup memory, "
                f"Metal allows {MAX_GROUP_BYTES}"
            )


def lint_recursion(functions, first):
    for address, function in functions.items():
        seen, waiting = set(), [function]
        while waiting:
            for callee in {first.get(call, call) for call in waiting.pop().calls} - seen:
                seen.add(callee)
                if callee in functions:
                    waiting.append(functions[callee])
        if address in seen:
            yield function, f"{function.name} calls itself: Metal has no recursion"
