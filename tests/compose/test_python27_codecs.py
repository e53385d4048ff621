"""Charsets are what they are under Python 2.7, whatever Python runs the test; python27_codecs.json.gz has what 2.7.18 says.

It was written by `_UNDER_PYTHON_2`, which a test runs again where there is a Python 2.7.
"""

from __future__ import annotations

import encodings.aliases
import gzip
import json
import subprocess
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from drainer.compose.mailman2_charset import charset_named
from drainer.compose.python27_codecs import ALIASES, MODULES, NOT_FOR_TEXT, decode, encode, module_of
from tests.pickles.samples import python2

_UNDER_PYTHON_2 = r'''# -*- coding: latin-1 -*-
import codecs, encodings, json, os, sys, warnings
from encodings.aliases import aliases
warnings.simplefilter("ignore")
NAMES = """macintosh x-mac-japanese x-mac-korean x-mac-simp-chinese x-mac-trad-chinese cp65001 kz1048 kz_1048 rk1048
strk1048_2002 cp866u cp1125 ibm1125 1125 ruscii cp273 273 csibm273 ibm273 koi8-t oem ansi cp1051 ibm1051 windows-31j
mac-centeuro string-escape unicode-internal hex zip bz2 rot13 ROT-13 uu base64 quopri punycode tactis tis260 mbcs nosuch
UTF-8 utf8 Utf_8 u8 utf.8 latin.1 iso-8859.1 ISO_8859-1:1987 ks_c_5601-1987 big5-hkscs windows-1252 X-UNKNOWN 8bit""".split()
OCTETS = [
    "", "Hello\n", "a + b = c +- d\n", "+AGEAYg-c+", "+2D3eAA-", "+2AA", "1+2 \\q \\777 \\u20ac\n",
    "".join(map(chr, range(32, 128))), "".join(map(chr, range(128, 192))), "".join(map(chr, range(192, 256))),
    "caf\xe9", "caf\xc3\xa9 \xe2\x82\xac", "\xed\xa0\x80", "\xff\xfeH\x00i\x00", "\x00\xd8\x00\x00\xff\xfe\x00\x00",
    "H\x00\x00\x00i\x00\x00\x00", "\xa4\xc6\xa4\xb9\xa4\xc8", "\x83e\x83X\x83g", "\x1b$B$F$9$H\x1b(B", "~{VPND~}",
    "\xb4\xfa\xb8\xd5", "\xc7\xd1\xb1\xdb", "\xd6\xd0\xce\xc4 3\xc4\xaf\xb26i", "'\x1c\x96\x1cb\xcf\xad",
    "\xcf\xb6!\x8f\xbb*x", "3\xc4\xaf\xb26i\x99\x1b", "\x93\x80\xff\xa0",
]
TEXTS = [
    u"Hello\n", u"caf\xe9", u"\u20ac 5", u"\u041f\u0440\u0438\u0432\u0435\u0442", u"\u3066\u3059\u3068", u"\u4e2d\u6587",
    u"\ud55c\uae00", u"\u0e17", u"\u0103\u0219", u"a + b",
]
def decoded(octets, name, errors):
    try:
        text = unicode(octets, name, errors)
        return text if isinstance(text, unicode) else None
    except Exception:
        return None
def encoded(text, name):
    try:
        return text.encode(name).decode("latin-1")
    except Exception:
        return None
def named(name):
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
files = os.listdir(os.path.dirname(encodings.__file__))
modules = dict((name[:-3], named(name[:-3])) for name in files if name.endswith(".py") and named(name[:-3]))
json.dump({
    "aliases": aliases,
    "modules": modules,
    "names": dict((name, named(name)) for name in NAMES),
    "octets": [octets.decode("latin-1") for octets in OCTETS],
    "texts": TEXTS,
    "decoded": dict((module, dict((errors, [decoded(octets, module, errors) for octets in OCTETS])
                                  for errors in ("strict", "ignore"))) for module in modules),
    "encoded": dict((module, [encoded(text, module) for text in TEXTS]) for module in modules),
}, sys.stdout, sort_keys=True, separators=(",", ":"))
'''
_RECORDED = Path(__file__).with_name("python27_codecs.json.gz")
_LESS_EXACT = {("hz", "ignore"), ("utf_32", "ignore"), ("utf_32_le", "ignore"), ("unicode_internal", "ignore")}
"""Python 3 skips broken octets of these charsets differently; no footer is written in them."""


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(_RECORDED.read_bytes()))
    return found


def test_names_are_those_python_2_knows_and_no_others() -> None:
    assert dict(MODULES) == recorded()["modules"]
    assert {alias: module for alias, module in recorded()["aliases"].items() if module in MODULES} == dict(ALIASES)
    names = {name: (None if (module := module_of(name)) is None else MODULES[module]) for name in recorded()["names"]}
    assert names == recorded()["names"]


def test_name_that_only_this_python_knows_is_no_charset() -> None:
    """By the running Python's own table, so that a later one with still more names fails nothing."""
    new = {name for name in encodings.aliases.aliases if module_of(name) is None}
    assert len(new) > 20
    for name in sorted(new):
        with pytest.raises(LookupError):
            decode(b"Hello", name)
        with pytest.raises(LookupError):
            encode("Hello", name)
        assert charset_named(name).input_codec == name.lower()


@pytest.mark.parametrize("errors", ["strict", "ignore"])
def test_octets_decode_to_the_same_text_as_under_python_2(errors: str) -> None:
    octets = [text.encode("latin-1") for text in recorded()["octets"]]
    wrong = []
    for module in MODULES:
        for text, expected in zip(octets, recorded()["decoded"][module][errors], strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    found: str | None = decode(text, module, errors)
                except (UnicodeError, LookupError):
                    found = None
            if found != expected and (module, errors) not in _LESS_EXACT:
                wrong.append((module, text, found, expected))
    assert wrong == []


def test_texts_encode_to_the_same_octets_as_under_python_2() -> None:
    wrong = []
    for module in MODULES.keys() - NOT_FOR_TEXT:
        for text, expected in zip(recorded()["texts"], recorded()["encoded"][module], strict=True):
            try:
                found: str | None = encode(text, module).decode("latin-1")
            except (UnicodeError, LookupError):
                found = None
            if found != expected:
                wrong.append((module, text, found, expected))
    assert wrong == []


def test_record_is_what_python_2_says() -> None:
    done = subprocess.run([python2(), "-c", _UNDER_PYTHON_2], capture_output=True, check=True)
    assert json.loads(done.stdout) == recorded()
