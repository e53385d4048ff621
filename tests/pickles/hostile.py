"""Pickles that no Mailman wrote: they try to run code, to take memory or time, or to break the reader.

Each is one pickle. `CANARY` stands for a file that must not come to exist.
"""

from __future__ import annotations

import pickle
import struct

CANARY = "CANARY"


def short(text: str) -> bytes:
    """SHORT_BINUNICODE."""
    octets = text.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(octets)]) + octets


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """GLOBAL, a tuple of the arguments, REDUCE."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def shared(step: bytes, depth: int) -> bytes:
    """`step` applied again and again to two of the last value: 2 ** depth leaves in a few bytes."""
    program = short("x") + b"\x94"
    for index in range(depth):
        fetch = b"h" + bytes([index])
        program += b"0" + step.replace(b"?", fetch) + b"\x94"
    return program


TOUCH = short(f"touch {CANARY}")

RUNS_CODE = {
    "os.system": call("os", "system", TOUCH) + b".",
    "posix.system": call("posix", "system", TOUCH) + b".",
    "nt.system by STACK_GLOBAL": short("posix") + short("system") + b"\x93" + TOUCH + b"\x85R.",
    "builtins.eval": call("builtins", "eval", short(f"open('{CANARY}', 'w')")) + b".",
    "__builtin__.exec, renamed for Python 2": call("__builtin__", "exec", short(f"open('{CANARY}', 'w')")) + b".",
    "builtins.getattr": call("builtins", "getattr", TOUCH, short("upper")) + b".",
    "subprocess.Popen by INST": b"(" + TOUCH + b"isubprocess\nPopen\n.",
    "subprocess.Popen by OBJ": b"(csubprocess\nPopen\n" + TOUCH + b"o.",
    "subprocess.Popen by NEWOBJ": b"csubprocess\nPopen\n" + TOUCH + b"\x85\x81.",
    "subprocess.Popen by NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n" + TOUCH + b"\x85}\x92.",
    "dotted name in an allowed module": short("datetime") + short("datetime.__class__") + b"\x93)R.",
    "dotted name through an import": short("email.message") + short("Message.__init__.__globals__") + b"\x93.",
    "dotted name, protocol 4 GLOBAL": b"\x80\x04cemail.message\nMessage.__reduce_ex__\n)R.",
    "our own module": call("drainer.pickles.restricted", "_load", TOUCH) + b".",
    "stand-in module": call("drainer.pickles.standins", "stand_in", TOUCH) + b".",
    "name with a NUL": short("posix\0") + short("system") + b"\x93" + TOUCH + b"\x85R.",
    "name with a surrogate": short("posix") + short("syst\udc65m") + b"\x93" + TOUCH + b"\x85R.",
    "empty name": short("") + short("") + b"\x93)R.",
    "name that is bytes": b"C\x05posixC\x06system\x93" + TOUCH + b"\x85R.",
    "name that is a number": b"K\x01K\x02\x93)R.",
    "copyreg extension 1": b"\x82\x01)R.",
    "copyreg extension 2": b"\x83\x01\x00)R.",
    "copyreg extension 4": b"\x84\x01\x00\x00\x00)R.",
    "persistent id": b"P" + f"touch {CANARY}".encode() + b"\n.",
    "binary persistent id": TOUCH + b"Q.",
    "codecs decode": call("_codecs", "decode", TOUCH, short("rot13")) + b".",
    "codecs encode with a code page that imports": call("_codecs", "encode", TOUCH, short("idna")) + b".",
    "class called by BUILD": b"cemail.message\nMessage\n)\x81}"
    + short("__setstate__")
    + b"cposix\nsystem\nsb"
    + TOUCH
    + b"b.",
    "state replaces a method": b"cemail.message\nMessage\n)\x81}" + short("attribute") + b"Nsb.",
    "state sets __class__": b"cemail.message\nMessage\n)\x81}" + short("__class__") + b"Nsb.",
    "state with slots": b"cemail.message\nMessage\n)\x81N}" + short("__class__") + b"Ns\x86b.",
    "BUILD on a set": b"\x8f}" + short("x") + b"Nsb.",
    "BUILD on a class": b"cemail.message\nMessage\n}" + short("attribute") + b"Nsb.",
    "a class as a value": b"]cemail.message\nMessage\na.",
    "a class as the whole": b"cemail.message\nMessage\n.",
    "APPENDS on an instance": b"cemail.message\nMessage\n)\x81(" + short("x") + b"e.",
    "SETITEMS on an instance": b"cemail.message\nMessage\n)\x81(" + short("x") + b"Nu.",
    "ADDITEMS on an instance": b"cemail.message\nMessage\n)\x81(" + short("x") + b"\x90.",
    "REDUCE of an instance": b"cemail.message\nMessage\n)\x81)R.",
    "datetime of a bomb": call("datetime", "datetime", b"K\x01", b"K\x01", b"K\x01") + b".",
    "set of a dictionary": call("builtins", "set", b"}") + b".",
    "real pickle of a lambda's parts": pickle.dumps(pickle.Pickler, 2),
    "state sets __dict__": b"cemail.message\nMessage\n)\x81}" + short("__dict__") + b"}sb.",
    "state sets __reduce__": b"cemail.header\nHeader\n)\x81}" + short("__reduce__") + TOUCH + b"sb.",
    "state sets __setstate__ in protocol 5": b"\x80\x05cemail.charset\nCharset\n)\x81}"
    + short("__setstate__")
    + b"Nsb.",
    "state renames what it is": b"(imailbox\nMMDFMessage\n}" + short("pickled_as") + TOUCH + b"sb.",
    "state of an old-style instance is a class": b"(iMailman.Message\nMessage\ncposix\nsystem\nb.",
    "attribute name that is a number": b"cemail.message\nMessage\n)\x81}K\x01Nsb.",
    "Message made by REDUCE with arguments": call("email.message", "Message", TOUCH) + b".",
    "MIMEText made by NEWOBJ with arguments": b"cemail.mime.text\nMIMEText\n" + TOUCH + b"\x85\x81.",
    "Header made by INST with arguments": b"(" + TOUCH + b"iemail.header\nHeader\n.",
    "Charset made by OBJ with arguments": b"(cemail.charset\nCharset\n" + TOUCH + b"o.",
    "reconstructor with another base": b"ccopy_reg\n_reconstructor\n(cemail.message\nMessage\nc__builtin__\ndict\nNtR.",
    "reconstructor of a function": b"ccopy_reg\n_reconstructor\n(cposix\nsystem\nc__builtin__\nobject\nNtR.",
    "reconstructor under its Python 3 name": call("copyreg", "_reconstructor", TOUCH) + b".",
    "__newobj__ by name": call("copyreg", "__newobj__", TOUCH) + b".",
    "uuid": call("uuid", "UUID", short("0" * 32)) + b".",
    "enumeration of Mailman 3": call("mailman.interfaces.member", "DeliveryMode", b"K\x01") + b".",
    "member of an enumeration by getattr": call("builtins", "getattr", b"cenum\nEnum\n", TOUCH) + b".",
    "datetime in the thirteenth month": call("datetime", "datetime", b"C\x0a" + bytes([7, 230, 13, 1, *[0] * 6]))
    + b".",
    "datetime of a text outside latin1": call("datetime", "datetime", short("\u20ac" * 10)) + b".",
    "date from another class of datetime": call("datetime", "date", b"C\x04\x07\xe6\x01\x01") + b".",
    "operator.attrgetter": call("operator", "attrgetter", short("__globals__")) + b".",
    "functools.partial of nothing allowed": b"cfunctools\npartial\n(cposix\nsystem\ntR(N(" + TOUCH + b"t}Ntb.",
    "importlib": call("importlib", "import_module", short("antigravity")) + b".",
    "codecs open": call("codecs", "open", short(CANARY), short("w")) + b".",
    "logging configuration": call("logging.config", "listen", b"M\x00\x23") + b".",
    "Mailman's own runner": call("mailman.runners.outgoing", "OutgoingRunner", TOUCH) + b".",
    "allowed name under another module": call("Mailman.Message", "MIMEText") + b".",
    "allowed name in capitals": call("EMAIL.MESSAGE", "Message") + b".",
    "allowed name with a blank": call("email.message", "Message ") + b".",
}

COSTS_TOO_MUCH = {
    "LONG_BINPUT of 2**31": b"Nr" + struct.pack("<I", 2**31) + b".",
    "LONG_BINPUT of 2**20": b"Nr" + struct.pack("<I", 2**20) + b".",
    "PUT of 10**9": b"Np1000000000\n.",
    "PUT of a negative index": b"Np-1\n.",
    "BINPUT far ahead": b"Nq\xff.",
    "PUT then MEMOIZE over a gap": b"Nq\x01N\x94N\x94.",
    "BINUNICODE8 of 2**62": b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "BINBYTES8 of 2**40": b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "BINSTRING of 2**31": b"T" + struct.pack("<I", 2**31) + b"x.",
    "BINSTRING of -1": b"T\xff\xff\xff\xff" + b"x.",
    "BYTEARRAY8 of 2**40": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "out-of-band buffer": b"\x97.",
    "read-only buffer": b"\x97\x98.",
    "FRAME of 2**60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "FRAME of -1": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "LONG4 of 64 MiB": b"\x8b" + struct.pack("<I", 2**26) + b"\1" * 100 + b".",
    "LONG of a million digits": b"L" + b"9" * 10**6 + b"L\n.",
    "INT of a million digits": b"I" + b"9" * 10**6 + b"\n.",
    "FLOAT of a million digits": b"F" + b"9" * 10**6 + b"\n.",
    "module name of a megabyte": b"c" + b"a" * 2**20 + b"\nb\n.",
    "protocol 6": b"\x80\x06N.",
    "protocol 255": b"\x80\xffN.",
    "DUP": b"]22\x86.",
    "nested lists": b"]" * 50_000 + b"a" * 49_999 + b".",
    "nested tuples": b"N" + b"\x85" * 50_000 + b".",
    "nested tuples as a key": b"}N" + b"\x85" * 50_000 + b"Ns.",
    "nested tuples in a set": b"\x8f(N" + b"\x85" * 50_000 + b"\x90.",
    "nested dictionaries": (b"}" + short("k")) * 50_000 + b"N" + b"s" * 50_000 + b".",
    "nested REDUCE": b"cemail.errors\nHeaderDefect\nq\x00" * 1 + b"0" + b"h\x00" * 2000 + b"N" + b"\x85R" * 2000 + b".",
    "tuples hashed exponentially": shared(b"??\x86", 200) + b"\x94}h" + bytes([200]) + b"Ns.",
    "tuples in a frozenset hashed exponentially": shared(b"??\x86", 200) + b"(h" + bytes([200]) + b"\x91.",
    "frozensets in frozensets": b"(" * 5000 + b"\x91" * 5000 + b".",
    "tuples walked exponentially": shared(b"??\x86", 200) + b".",
    "lists walked exponentially": shared(b"](??e", 200) + b".",
    "dictionaries walked exponentially": shared(b"}(" + short("a") + b"?" + short("b") + b"?u", 120) + b".",
    "a list in itself": b"]\x94h\x00a.",
    "a dictionary in itself": b"}\x94" + short("a") + b"h\x00s.",
    "a message in itself": b"cemail.message\nMessage\n)\x81\x94}" + short("_payload") + b"]h\x00asb.",
    "a list in itself by way of a tuple": b"]\x94h\x00\x85a.",
    "a list changed after another took it": b"]\x94]h\x00a0h\x00h\x00a.",
    "numbers that collide": b"}(" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 60_000)) + b"u.",
    "numbers that collide, one by one": b"}" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"Ns" for k in range(1, 60_000)) + b".",
    "numbers that collide, in a called set": call(
        "builtins", "set",
        b"](" + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") for k in range(1, 60_000)) + b"e") + b".",
    "one big text again and again": b"](X" + struct.pack("<I", 2**20) + b"x" * 2**20 + b"\x94" + b"h\x00" * 200_000 + b"e.",
    "one big text encoded again and again": b"](X" + struct.pack("<I", 2**20) + b"x" * 2**20 + b"\x94" + short("latin1")
    + b"\x94c_codecs\nencode\n\x94" + b"h\x02h\x00h\x01\x86R" * 10_000 + b"e.",
    "STOP missing": b"](NNNe",
    "nothing but PROTO": b"\x80\x02",
    "STOP before anything": b".",
    "two values left": b"NN.",
    "a mark left": b"(N.",
    "FRAME inside a FRAME that reaches past it": b"\x80\x04\x95" + struct.pack("<Q", 12) + b"\x95" + struct.pack("<Q", 2**40)
    + b"N.",
    "FRAME of 2**63": b"\x80\x05\x95" + struct.pack("<Q", 2**63) + b"N.",
    "BINBYTES of 2**31": b"B" + struct.pack("<I", 2**31) + b"x.",
    "BINUNICODE of 2**32 - 1": b"X\xff\xff\xff\xff" + b"x.",
    "LONG4 of a negative size": b"\x8b\xff\xff\xff\xff.",
    "LONG_BINGET of 2**31": b"Nj" + struct.pack("<I", 2**31) + b".",
    "GET of 10**9": b"g1000000000\n.",
    "memo doubled in a message's headers": b"cemail.message\nMessage\n)\x81}" + short("_headers") + shared(b"](??e", 120)
    + b"sb.",
    "memo doubled in a Header's chunks": b"cemail.header\nHeader\n)\x81}" + short("_chunks") + shared(b"??\x86", 120)
    + b"sb.",
    "a set of sets": b"\x8f(\x8f\x90.",
    "a datetime of a datetime": b"cdatetime\ndatetime\n" * 2 + b"N\x85R\x85R.",
    "timedeltas in timezones in timezones": b"cdatetime\ntimezone\n\x940" + b"h\x00" * 1500 + b"N" + b"\x85R" * 1500 + b".",
    "parts in parts": b"".join(b"cemail.message\nMessage\n)\x81}" + short("_payload") + b"]" for _ in range(1100))
    + b"N" + b"asb" * 1100 + b".",
    "five million empty sets": b"(" + b"\x8f" * 5_000_000 + b"t.",
    "five million empty dictionaries": b"(" + b"}" * 5_000_000 + b"t.",
    "five million empty lists": b"(" + b"]" * 5_000_000 + b"t.",
    "five million marks": b"(" * 5_000_000 + b".",
    "five million times nothing": b"N0" * 2_500_000 + b"N.",
    "dates by the million": b"(" + b"cdatetime\ndatetime\n\x94" + b"C\x0a" + bytes([7, 230, 1, 1, 0, 0, 0, 0, 0, 0])
    + b"\x85\x94" + b"h\x00h\x01R" * 1_000_000 + b"t.",
}  # fmt: skip
