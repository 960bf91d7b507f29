"""Hostile PyTorch files, each with the technique it uses, where that was published, and what must be said of it.

The first group is live: its payloads touch the canary file, or try to, when a pickle loads them. None may do so here.
"""

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.pytorch_files import (
    MAGIC,
    SIXTEEN,
    call,
    checkpoint,
    legacy,
    name,
    number,
    pickled,
    put,
    stacked_name,
    storage,
    tensor,
    text,
    zipped,
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file, its technique and source, and the rule and case that must report it.

    `beside` says that it is a finding beside the one sound tensor, "weight"; otherwise the file is refused. An empty
    `rule` means that it is harmless here and read without a finding. `runs` is the pickle alone where loading it with
    `pickle` does touch the canary.
    """

    technique: str
    source: str
    content: bytes
    rule: str = "JN020"
    case: str = "unknown-global"
    beside: bool = False
    runs: bytes = b""


PICKLESCAN = "picklescan's advisories, August 2025 to March 2026"
FICKLING = "fickling, GHSA-5j3x-jp52-966f and GHSA-mhc9-48gj-9gp3"
TORCH_CVES = "CVE-2025-32434 and CVE-2026-24747"
PICKLETOOLS = "CPython, Lib/pickletools.py: what the opcode can do"
NO = b"\x89"  # the opcode of False
BLACK_HAT = "Sour Pickles, Black Hat 2011"


def hostile_files(canary: str) -> tuple[Hostile, ...]:
    """All of them, with the path of the file that they would touch."""
    return (
        *_calls(canary),
        *_constructions(canary),
        *_structures(),
        *_tensors(),
        *_archives(canary),
        *_containers(canary),
    )


def _beside(payload: bytes) -> bytes:
    """A pickle with a sound tensor, and the payload after it."""
    return pickled({"weight": tensor(), "payload": payload})


# ---- names of what would run


def _calls(canary: str) -> Iterator[Hostile]:
    touch = f"touch {canary}"
    write = f"open({canary!r}, 'w')"
    live: tuple[tuple[str, str, str, tuple[object, ...]], ...] = (
        (BLACK_HAT, "os", "system", (touch,)),
        (BLACK_HAT, "posix", "system", (touch,)),
        (BLACK_HAT, "subprocess", "call", (["touch", canary],)),
        (BLACK_HAT, "subprocess", "check_output", (["touch", canary],)),
        (BLACK_HAT, "subprocess", "Popen", (["touch", canary],)),
        (BLACK_HAT, "builtins", "eval", (write,)),
        (BLACK_HAT, "builtins", "exec", (write,)),
        (BLACK_HAT, "__builtin__", "eval", (write,)),
        (BLACK_HAT, "builtins", "open", (canary, "w")),
        (PICKLESCAN, "timeit", "timeit", (write, "pass", 1.0)),
        (PICKLESCAN, "cProfile", "run", (write,)),
        (PICKLESCAN, "profile", "run", (write,)),
        (PICKLESCAN, "trace", "Trace", ()),
        (PICKLESCAN, "pty", "spawn", (["touch", canary],)),
        (PICKLESCAN, "runpy", "_run_code", (write, {})),
        (PICKLESCAN, "code", "interact", (touch,)),
        (PICKLESCAN, "io", "open", (canary, "w")),
        (PICKLESCAN, "_io", "FileIO", (canary, "w")),
        (PICKLESCAN, "pathlib", "Path.touch", (canary,)),
        (PICKLESCAN, "logging", "FileHandler", (canary,)),
        (PICKLESCAN, "sqlite3", "connect", (canary,)),
        (PICKLESCAN, "shelve", "open", (canary,)),
        (PICKLESCAN, "dbm.dumb", "open", (canary,)),
        (PICKLESCAN, "os", "mkdir", (canary,)),
    )
    for source, module, attribute, arguments in live:
        payload = call(module, attribute, *arguments)
        yield Hostile(f"{module}.{attribute}", source, checkpoint(_beside(payload)), beside=True, runs=pickled(payload))
    dormant: tuple[tuple[str, str, str, tuple[object, ...]], ...] = (
        ("CVE-2025-1716", "pip", "main", (["install", canary],)),
        ("CVE-2025-1716", "pip._internal.cli.main", "main", (["install", canary],)),
        ("modelscan issue 338", "torch.utils.collect_env", "run", (touch,)),
        (PICKLESCAN, "torch.utils.bottleneck.__main__", "run_prof", ({},)),
        (PICKLESCAN, "torch._inductor.codecache", "compile_file", (canary, canary, touch)),
        (PICKLESCAN, "torch.utils._config_module", "load_config", (canary,)),
        (PICKLESCAN, "torch.jit.unsupported_tensor_ops", "execWrapper", (write, {}, {})),
        (PICKLESCAN, "torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression", (write,)),
        (PICKLESCAN, "torch.storage", "_load_from_bytes", (b"\x80\x02.",)),
        (PICKLESCAN, "torch.serialization", "load", (canary,)),
        (PICKLESCAN, "torch", "load", (canary,)),
        (PICKLESCAN, "torch.hub", "load", (canary, "x")),
        (PICKLESCAN, "torch.jit", "load", (canary,)),
        (PICKLESCAN, "doctest", "debug_script", (write,)),
        (PICKLESCAN, "idlelib.pyshell", "ModifiedInterpreter.runcode", (None, write)),
        (PICKLESCAN, "idlelib.autocomplete", "AutoComplete.get_entity", (None, write)),
        (PICKLESCAN, "lib2to3.pgen2.pgen", "ParserGenerator.make_label", (None, None, write)),
        (PICKLESCAN, "ensurepip", "_run_pip", (["install", canary],)),
        (PICKLESCAN, "asyncio.unix_events", "_UnixSubprocessTransport._start", (None, touch)),
        (PICKLESCAN, "bdb", "Bdb.run", (None, write)),
        (PICKLESCAN, "pydoc", "pipepager", ("", touch)),
        (PICKLESCAN, "code", "InteractiveInterpreter.runcode", (None, write)),
        (PICKLESCAN, "distutils.file_util", "write_file", (canary, [])),
        (PICKLESCAN, "ctypes", "CDLL", (canary,)),
        (PICKLESCAN, "logging.config", "listen", (9999,)),
        (PICKLESCAN, "ssl", "get_server_certificate", (("127.0.0.1", 9),)),
        (PICKLESCAN, "numpy.testing._private.utils", "runstring", (write, {})),
        (PICKLESCAN, "numpy.f2py.crackfortran", "getlincoef", (write, ())),
        (PICKLESCAN, "_operator", "attrgetter", ("system",)),
        (PICKLESCAN, "operator", "methodcaller", ("system", touch)),
        (PICKLESCAN, "functools", "partial", (name("os", "system"), touch)),
        (PICKLESCAN, "builtins", "getattr", (name("os", "path"), "os")),
        (PICKLESCAN, "builtins", "apply", (name("os", "system"), (touch,))),
        (PICKLESCAN, "builtins", "__import__", ("os",)),
        (PICKLESCAN, "importlib", "import_module", (canary,)),
        (BLACK_HAT, "marshal", "loads", (b"\x80\x02.",)),
        (BLACK_HAT, "types", "CodeType", (0,)),
        (BLACK_HAT, "types", "FunctionType", (None, {})),
        (BLACK_HAT, "nt", "system", (touch,)),
        ("modelscan issue 263", "webbrowser", "open", ("http://127.0.0.1/",)),
        ("modelscan issue 330", "urllib.request", "urlopen", ("http://127.0.0.1/",)),
        ("modelscan issue 367", "socket", "create_connection", (("127.0.0.1", 9),)),
        ("modelscan issue 330", "http.client", "HTTPSConnection", ("127.0.0.1",)),
        ("nested loaders", "pickle", "loads", (pickle.dumps(1),)),
        ("nested loaders", "_pickle", "loads", (pickle.dumps(1),)),
        ("nested loaders", "dill", "loads", (pickle.dumps(1),)),
        ("nested loaders", "cloudpickle", "loads", (pickle.dumps(1),)),
        ("nested loaders", "joblib", "load", (canary,)),
        ("nested loaders", "numpy", "load", (canary,)),
        ("nested loaders", "pandas", "read_pickle", (canary,)),
        ("CVE-2025-10157, a module inside a known one", "torch.nn.modules.linear.os", "system", (touch,)),
        ("Megatron-Bridge 3379, a prefix is known", "builtins.evil", "dict", ()),
        ("near misses of known names", "Collections", "OrderedDict", ()),
        ("near misses of known names", "collections ", "OrderedDict", ()),
        ("near misses of known names", "collections", "OrderedDict ", ()),
        ("near misses of known names", "cоllections", "OrderedDict", ()),  # noqa: RUF001 - a Cyrillic letter
        ("near misses of known names", "torch._utils", "_import_dotted_name", ("os.system",)),
        ("escapes in a name", "os\x1b[2J", "system\u202e", ()),
        ("extension registry", "copyreg", "add_extension", ("os", "system", 1)),
        ("sys.modules is a dict to write to", "sys", "modules", ()),
    )
    for source, module, attribute, arguments in dormant:
        content = checkpoint(_beside(call(module, attribute, *(_bytes(each) for each in arguments))))
        yield Hostile(f"{module}.{attribute}", source, content, beside=True)


def _bytes(value: object) -> object:
    """Bytes that are a value, not opcodes."""
    return b"C" + bytes([len(value)]) + value if isinstance(value, bytes) and not value.startswith(b"c") else value


# ---- ways of making things


def _constructions(canary: str) -> Iterator[Hostile]:
    system = name("os", "system")
    touch = put((f"touch {canary}",))
    dotted = stacked_name("collections", "OrderedDict.__init__.__globals__")
    chains: tuple[tuple[str, str, bytes], ...] = (
        (FICKLING, "STACK_GLOBAL with a dotted name", dotted),
        (FICKLING, "STACK_GLOBAL", stacked_name("os", "system") + touch + b"R"),
        (
            FICKLING,
            "STACK_GLOBAL of memoised texts",
            text("os") + b"\x94" + text("system") + b"\x94\x93" + touch + b"R",
        ),
        (FICKLING, "an appended BUILD", call("os", "system", "x") + put({"a": 1}) + b"b"),
        (FICKLING, "POP hides the result", system + touch + b"R0N"),
        (FICKLING, "POP_MARK hides the result", b"(" + system + touch + b"R1N"),
        (PICKLETOOLS, "NEWOBJ", system + touch + b"\x81"),
        (PICKLETOOLS, "NEWOBJ_EX", system + touch + b"}\x92"),
        (PICKLETOOLS, "a global that is never called", system),
        (PICKLETOOLS, "a callable out of the memo", system + b"\x940h\x00" + touch + b"R"),
        (
            "CPython, object.__reduce__",
            "BUILD of __setstate__",
            call("argparse", "Namespace") + put({"__setstate__": system}) + b"b",
        ),
        (
            "CPython, object.__reduce__",
            "BUILD of __class__",
            call("argparse", "Namespace") + put({"__class__": system}) + b"b",
        ),
        (
            "CPython, object.__reduce__",
            "BUILD of __dict__",
            call("argparse", "Namespace") + put({"__dict__": {"a": system}}) + b"b",
        ),
        (
            "CPython, object.__reduce__",
            "BUILD with slots",
            call("argparse", "Namespace") + put((None, {"__reduce__": system})) + b"b",
        ),
        (
            "copyreg._reconstructor",
            "of another class",
            call("copyreg", "_reconstructor", system, name("builtins", "object"), None),
        ),
        ("hooks", "backward hooks that are callables", tensor(None, 0, (4,), (1,), NO, put({0: system}))),
        (
            "rebuild functions",
            "a tensor of a class, made by another function",
            call("torch._tensor", "_rebuild_from_type_v2", system, name("torch", "Tensor"), touch, {}),
        ),
        ("rebuild functions", "a parameter of no tensor", call("torch._utils", "_rebuild_parameter", system, NO, {})),
        ("defaultdict", "with a factory", call("collections", "defaultdict", system)),
        (
            "numpy",
            "an object array",
            call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), (0,), b"C\x01b")
            + put((1, (1,), name("numpy", "dtype"), NO, [system]))
            + b"b",
        ),
        ("two pickles in one", "a pickle as bytes", call("pickle", "loads", b"C\x05" + b"\x80\x02N.x")),
    )
    for source, technique, payload in chains:
        yield Hostile(technique, source, checkpoint(_beside(payload)), beside=True)


# ---- pickles that are no checkpoint's


def _structures() -> Iterator[Hostile]:
    refused: tuple[tuple[str, str, bytes, str, str], ...] = (
        (PICKLETOOLS, "INST", b"\x80\x02(S'touch'\nios\nsystem\n.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "INST alone", b"\x80\x02(ios\nsystem\n.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "OBJ", b"\x80\x02(cargparse\nNamespace\no.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "EXT1", b"\x80\x02\x82\x01.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "EXT2", b"\x80\x02\x83\x01\x00.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "EXT4", b"\x80\x02\x84\x01\x00\x00\x00.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "PERSID", b"\x80\x02Pstorage\n.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "NEXT_BUFFER", b"\x80\x05\x97.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "READONLY_BUFFER", b"\x80\x05N\x98.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "text GET", b"\x80\x02Np0\ng0\n.", "JN020", "opcode-not-allowed"),
        (PICKLETOOLS, "an opcode that there is not", b"\x80\x02\xff.", "JN020", "no-opcode"),
        (PICKLETOOLS, "protocol 6", b"\x80\x06N.", "JN020", "pickle-protocol"),
        (PICKLETOOLS, "no STOP", b"\x80\x02N", "JN001", "pickle-cut-off"),
        (PICKLETOOLS, "bytes after STOP", b"\x80\x02N.cos\nsystem\n", "JN020", "bytes-after-pickle"),
        (PICKLETOOLS, "STOP on an empty stack", b"\x80\x02.", "JN020", "stack-underflow"),
        (PICKLETOOLS, "POP below a mark", b"\x80\x02N(000.", "JN020", "no-mark"),
        (PICKLETOOLS, "TUPLE without a mark", b"\x80\x02Nt.", "JN020", "no-mark"),
        (PICKLETOOLS, "memo that was never put", b"\x80\x02h\x05.", "JN020", "empty-memo"),
        (PICKLETOOLS, "GLOBAL of a very long name", b"\x80\x02c" + b"a" * 5000 + b"\nb\n.", "JN020", "odd-global"),
        (PICKLETOOLS, "GLOBAL that is not UTF-8", b"\x80\x02c\xff\nb\n.", "JN020", "odd-global"),
        (PICKLETOOLS, "STACK_GLOBAL of numbers", pickled(b"K\x01K\x02\x93"), "JN020", "odd-global"),
        (PICKLETOOLS, "REDUCE of text", pickled(text("os.system") + b")R"), "JN020", "odd-call"),
        (PICKLETOOLS, "REDUCE with a list", pickled(name("argparse", "Namespace") + b"]R"), "JN020", "odd-call"),
        (PICKLETOOLS, "LONG4 of four gigabytes", b"\x80\x02\x8b\xff\xff\xff\x7f.", "JN020", "huge-integer"),
        (PICKLETOOLS, "LONG4 of a negative length", b"\x80\x02\x8b\xff\xff\xff\xff.", "JN020", "huge-integer"),
        (PICKLETOOLS, "BINUNICODE of four gigabytes", b"\x80\x02X\xff\xff\xff\xff.", "JN001", "pickle-cut-off"),
        (PICKLETOOLS, "BINUNICODE8 of 16 exabytes", b"\x80\x04\x8d" + b"\xff" * 8 + b".", "JN001", "pickle-cut-off"),
        (PICKLETOOLS, "BINBYTES8 of 16 exabytes", b"\x80\x04\x8e" + b"\xff" * 8 + b".", "JN001", "pickle-cut-off"),
        (PICKLETOOLS, "BYTEARRAY8 of 16 exabytes", b"\x80\x05\x96" + b"\xff" * 8 + b".", "JN001", "pickle-cut-off"),
        (PICKLETOOLS, "text that is not UTF-8", b"\x80\x02X\x01\x00\x00\x00\xff.", "JN020", "text-not-utf8"),
        (TORCH_CVES, "SETITEM on a list", pickled(b"]K\x00Ns"), "JN020", "setitem-on-no-dict"),
        (TORCH_CVES, "SETITEM on a tensor", pickled(tensor() + b"K\x00Ns"), "JN020", "setitem-on-no-dict"),
        (TORCH_CVES, "SETITEMS on a storage", pickled(storage() + b"(K\x00Nu"), "JN020", "setitem-on-no-dict"),
        (TORCH_CVES, "APPEND on a dict", pickled(b"}Na"), "JN020", "append-to-no-list"),
        (TORCH_CVES, "APPENDS on a tensor", pickled(tensor() + b"(Ne"), "JN020", "append-to-no-list"),
        (PICKLETOOLS, "SETITEMS of an odd number", pickled(b"}(Nu"), "JN020", "key-without-value"),
        (TORCH_CVES, "BUILD on a class", pickled(name("torch", "Tensor") + b"}b"), "JN020", "state-of-data"),
        (TORCH_CVES, "BUILD on a storage", pickled(storage() + b"}b"), "JN020", "state-of-data"),
        (PICKLETOOLS, "tuples 100,000 deep", pickled(b"N" + b"\x85" * 100_000), "JN020", "nesting-too-deep"),
        (
            PICKLETOOLS,
            "a tuple 100,000 deep as a key",
            pickled(b"}" + b"N" + b"\x85" * 100_000 + tensor() + b"s"),
            "",
            "",
        ),
        (PICKLETOOLS, "a name longer than any", pickled({"x" * 5000: tensor()}), "JN020", "name-too-long"),
        (PICKLETOOLS, "names of names", pickled({"a" * 999: tensor(), "b": b"(" + b"]" * 0 + b"t"}), "", ""),
        (PICKLETOOLS, "a cycle of lists", pickled({"weight": tensor(), "loop": b"]\x94h\x00a"}), "", ""),
        (PICKLETOOLS, "a cycle of dicts", pickled({"weight": tensor(), "loop": b"}\x94K\x01h\x00s"}), "", ""),
        (PICKLETOOLS, "billion laughs", pickled({"weight": tensor(), "laughs": _laughs()}), "", ""),
        (PICKLETOOLS, "billion laughs of tensors", pickled(_laughs(tensor())), "", ""),
        (PICKLETOOLS, "a memo at four billion", pickled({"weight": tensor(), "x": b"Nr\xff\xff\xff\xff"}), "", ""),
        (PICKLETOOLS, "a frame that lies", b"\x80\x04\x95" + b"\xff" * 8 + put({"weight": tensor()}) + b".", "", ""),
        (PICKLETOOLS, "keys with one hash", pickled({"weight": tensor(), "d": _colliding_keys()}), "", ""),
        (PICKLETOOLS, "half a surrogate pair in a name", pickled({b"X\x03\x00\x00\x00\xed\xa0\x80": tensor()}), "", ""),
        ("persistent ids", "a text", pickled(text("os.system") + b"Q"), "JN020", "odd-persistent-id"),
        ("persistent ids", "of another kind", pickled(put(("code", "x")) + b"Q"), "JN020", "odd-persistent-id"),
        (
            "persistent ids",
            "a storage of another class",
            pickled(storage(kind=name("argparse", "Namespace"))),
            "JN020",
            "odd-storage",
        ),
        ("persistent ids", "a number for a key", pickled(storage(key=0)), "JN020", "odd-persistent-id"),
        ("persistent ids", "a negative size", pickled(storage(count=-4)), "JN020", "odd-persistent-id"),
        ("persistent ids", "a size of 2^200", pickled(storage(count=1 << 200)), "JN020", "odd-storage"),
    )
    for source, technique, content, rule, case in refused:
        yield Hostile(technique, source, checkpoint(content), rule, case)


def _laughs(first: bytes = b"]") -> bytes:
    """Thirty lists, each of ten times the one before."""
    lists = first + b"q\x00"
    for depth in range(1, 30):
        lists += b"0](" + (b"h" + bytes([depth - 1])) * 10 + b"eq" + bytes([depth])
    return lists


def _colliding_keys() -> bytes:
    """Integers that all have the hash 0: multiples of 2^61 - 1, with which a dict takes quadratic time."""
    modulus = (1 << 61) - 1
    return b"}(" + b"".join(number(modulus * each) + b"N" for each in range(20_000)) + b"u"


# ---- tensors that lie


def _tensors() -> Iterator[Hostile]:
    lies: tuple[tuple[str, bytes, str, str], ...] = (
        ("a shape past the storage", tensor(None, 0, (5,), (1,)), "JN004", "view-outside-storage"),
        ("a stride past the storage", tensor(None, 0, (2, 2), (1, 1 << 40)), "JN004", "view-outside-storage"),
        ("an offset past the storage", tensor(None, 4, (1,), (1,)), "JN004", "view-outside-storage"),
        ("a shape that wraps round", tensor(None, 0, (1 << 62, 4), (4, 1)), "JN004", "view-outside-storage"),
        ("a negative stride", tensor(None, 3, (4,), (-1,)), "JN004", "odd-size"),
        ("a negative size", tensor(None, 0, (-4,), (1,)), "JN004", "odd-size"),
        ("a negative offset", tensor(None, -1, (1,), (1,)), "JN004", "odd-size"),
        ("a boolean size", tensor(None, 0, (True,), (1,)), "JN004", "odd-size"),
        ("a fractional size", tensor(None, 0, (4.0,), (1,)), "JN004", "odd-size"),
        ("a size of 2^200", tensor(None, 0, (1 << 200,), (1,)), "JN004", "odd-size"),
        ("65 dimensions", tensor(None, 0, (1,) * 65, (1,) * 65), "JN004", "rank-too-large"),
        ("more sizes than strides", tensor(None, 0, (2, 2), (1,)), "JN004", "odd-size"),
        ("a size that is text", tensor(None, 0, "44", (1,)), "JN004", "odd-size"),
        ("a tensor of text", tensor(text("0")), "JN020", "odd-tensor"),
        ("a tensor of nothing", call("torch._utils", "_rebuild_tensor_v2"), "JN020", "odd-tensor"),
        (
            "a tensor of an odd dtype",
            call("torch._utils", "_rebuild_tensor_v3", storage(), 0, (1,), (1,), NO, None, "float32"),
            "JN020",
            "odd-tensor",
        ),
        (
            "a class of a class of a tensor",
            call(
                "torch._tensor", "_rebuild_from_type_v2", name("torch._tensor", "_rebuild_from_type_v2"), None, (), {}
            ),
            "JN020",
            "odd-tensor",
        ),
        (
            "the sign of integers turned",
            tensor(storage(count=2, kind=name("torch", "LongStorage")), 0, (2,), (1,), NO, None, {"neg": True}),
            "JN020",
            "odd-tensor",
        ),
        (
            "a quantised tensor of floats",
            call(
                "torch._utils",
                "_rebuild_qtensor",
                storage(),
                0,
                (4,),
                (1,),
                (name("torch", "per_tensor_affine"), 1.0, 0),
            ),
            "JN020",
            "odd-quantiser",
        ),
        ("a quantised tensor without scales", _quantised(()), "JN020", "odd-quantiser"),
        (
            "too few scales",
            _quantised((name("torch", "per_channel_affine"), tensor(), tensor(), 0)),
            "JN004",
            "scales-and-channels",
        ),
        (
            "an axis outside",
            _quantised((name("torch", "per_channel_affine"), tensor(), tensor(), 9)),
            "JN020",
            "odd-quantiser",
        ),
        (
            "a zero point of 2^200",
            _quantised((name("torch", "per_tensor_affine"), 1.0, 1 << 200)),
            "JN020",
            "odd-quantiser",
        ),
        (
            "a sparse tensor of nothing",
            call("torch._utils", "_rebuild_sparse_tensor", "x", ()),
            "JN020",
            "odd-sparse-tensor",
        ),
        ("a nested tensor of nothing", call("torch._utils", "_rebuild_nested_tensor"), "JN020", "odd-nested-tensor"),
        (
            "a part of a storage outside it",
            put(("storage", name("torch", "FloatStorage"), "0", "cpu", 4, ("1", 2, 3))) + b"Q",
            "JN004",
            "storage-part-outside",
        ),
        ("a storage of two sizes", put((storage(), storage(count=8))), "JN004", "storage-size"),
        ("a storage larger than its member", tensor(storage(count=1 << 40)), "JN004", "storage-size"),
        ("a storage smaller than its member", tensor(storage(count=3), 0, (3,)), "JN004", "storage-size"),
        ("a storage that is not there", tensor(storage("1")), "JN004", "storage-missing"),
        ("a storage by a path", tensor(storage("../data.pkl")), "JN004", "storage-missing"),
    )
    for technique, payload, rule, case in lies:
        yield Hostile(technique, TORCH_CVES, checkpoint(pickled({"weight": payload})), rule, case)


def _quantised(parameters: tuple[object, ...]) -> bytes:
    codes = storage(count=16, kind=name("torch", "QInt8Storage"))
    return call("torch._utils", "_rebuild_qtensor", codes, 0, (16,), (1,), parameters, NO, {})


# ---- archives that can be read in two ways


def _archives(canary: str) -> Iterator[Hostile]:
    sound = checkpoint(pickled({"weight": tensor()}))
    evil = pickled(call("os", "system", f"touch {canary}"))
    central = sound.index(b"PK\1\2")
    first_name = sound.index(b"archive/data.pkl")
    renamed = sound.replace(b"archive/data/0", b"archive/data/9", 1)
    flagged = sound[:6] + b"\x01\x00" + sound[8:]
    centrally_flagged = sound[: central + 8] + b"\x01\x00" + sound[central + 10 :]
    packed = sound[:8] + b"\x08\x00" + sound[10:]
    sized = sound[:22] + struct.pack("<I", 3) + sound[26:]
    checksum = sound[:14] + bytes(4) + sound[18:]
    bad = bytearray(sound)
    bad[first_name + 16 + 40] ^= 1
    deflated = zipped({"data.pkl": pickled({"weight": tensor()}), "data/0": SIXTEEN}, compression=zipfile.ZIP_DEFLATED)
    two = _with_twice(evil)
    tampered = "CVE-2025-1944, CVE-2025-1945 and CVE-2025-10156"
    anomalies: tuple[tuple[str, str, bytes, str, str], ...] = (
        (tampered, "another name in the member's own header", renamed, "JN009", "zip-headers-differ"),
        (tampered, "encrypted, says the member's own header", flagged, "JN009", "zip-headers-differ"),
        (tampered, "encrypted, says the directory", centrally_flagged, "JN009", "zip-encrypted"),
        (tampered, "a wrong checksum", bytes(bad), "JN009", "zip-checksum"),
        (tampered, "another checksum in the member's own header", checksum, "JN009", "zip-headers-differ"),
        (tampered, "deflated, says the member's own header", packed, "JN009", "zip-headers-differ"),
        (tampered, "another size in the member's own header", sized, "JN009", "zip-headers-differ"),
        (tampered, "one member twice", two, "JN009", "zip-duplicate-member"),
        (tampered, "a pickle that is deflated", deflated, "JN009", "zip-compressed-storage"),
        (tampered, "two archives in one file", checkpoint(evil) + sound, "JN009", "zip-directory-place"),
        (tampered, "bytes after the end", sound + b"cos\nsystem\n", "JN001", "zip-no-end-record"),
        (tampered, "cut off", sound[:-30], "JN001", "zip-no-end-record"),
        (
            "CVE-2025-1889 and CVE-2025-10155",
            "a pickle in another folder",
            _with_other_pickle(evil),
            "JN009",
            "zip-pickle-place",
        ),
        (
            "CVE-2025-1889 and CVE-2025-10155",
            "a hostile pickle that is no part of the file",
            checkpoint(pickled({"weight": tensor()}), **{"config.p": evil}),
            "",
            "",
        ),
        (
            "CVE-2025-1889 and CVE-2025-10155",
            "no pickle at all",
            zipped({"byteorder": b"little"}),
            "JN002",
            "zip-archive",
        ),
        (
            tampered,
            "an unknown byte order",
            zipped({"data.pkl": pickled({"weight": tensor()}), "byteorder": b"middle", "data/0": SIXTEEN}),
            "JN004",
            "byte-order",
        ),
    )
    for source, technique, content, rule, case in anomalies:
        yield Hostile(technique, source, content, rule, case)


def _with_twice(evil: bytes) -> bytes:
    content = checkpoint(pickled({"weight": tensor()}), **{"data.pkx": evil})
    return content.replace(b"archive/data.pkx", b"archive/data.pkl")


def _with_other_pickle(evil: bytes) -> bytes:
    buffer = io.BytesIO(checkpoint(pickled({"weight": tensor()})))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo("other/data.pkl"), evil)
    return buffer.getvalue()


# ---- the formats before zip


def _containers(canary: str) -> Iterator[Hostile]:
    payload = call("os", "system", f"touch {canary}")
    weight = pickled({"weight": tensor()})
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for member in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    files: tuple[tuple[str, str, bytes, str, str], ...] = (
        (TORCH_CVES, "the tar archive that weights_only fell back to", tar.getvalue(), "JN022", "torch-tar"),
        (BLACK_HAT, "a bare pickle that runs a command", pickled(payload), "JN020", "unknown-global"),
        (BLACK_HAT, "a bare pickle whose end is broken", pickled(payload)[:-1], "JN020", "unknown-global"),
        (
            BLACK_HAT,
            "a bare pickle of protocol 4",
            b"\x80\x04" + stacked_name("os", "system") + b")R.",
            "JN020",
            "unknown-global",
        ),
        ("other writers", "a bare pickle of plain data", pickle.dumps({"a": [1.0, 2.0]}, 2), "JN022", "bare-pickle"),
        (
            "other writers",
            "a pickle with raw arrays inside, as joblib writes it",
            pickle.dumps({"a": 1}, 4)[:-1] + b"\xff" * 20,
            "JN022",
            "bare-pickle",
        ),
        (TORCH_CVES, "another version", MAGIC + pickle.dumps(1002, 2), "JN020", "version"),
        (TORCH_CVES, "a hostile second pickle", MAGIC + pickled(payload), "JN020", "version"),
        (TORCH_CVES, "other storages than named", legacy(weight, {"1": SIXTEEN}), "JN004", "storage-keys"),
        (TORCH_CVES, "a storage of another size", legacy(weight, count=5), "JN004", "storage-size"),
        (TORCH_CVES, "a storage of a negative size", legacy(weight, count=-1), "JN004", "storage-size"),
        (TORCH_CVES, "a storage of 2^63 - 1 elements", legacy(weight, count=(1 << 63) - 1), "JN004", "storage-size"),
        (TORCH_CVES, "storages cut off", legacy(weight)[:-1], "JN001", "data-cut-off"),
        (TORCH_CVES, "storages missing", legacy(weight)[:-20], "JN001", "data-cut-off"),
        (TORCH_CVES, "bytes after the storages", legacy(weight) + b"PK\3\4", "JN001", "trailing-bytes"),
    )
    for source, technique, content, rule, case in files:
        yield Hostile(technique, source, content, rule, case)
    yield Hostile("a command beside tensors, before 1.6", BLACK_HAT, legacy(_beside(payload)), beside=True)
