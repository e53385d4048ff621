"""The codecs of Python 2.7, on which Mailman 2.1 runs, with the same results on any Python 3.

In    names of character sets, octets, texts
Out   the result of Python 2.7; LookupError if it has no such codec, or none between octets and text
Pure  values only

The names that Python 2.7 knows are a fixed table: Python 3 has added some (macintosh, cp65001, kz1048, ...) and removed
others (rot13 and hex for octets, mac_centeuro). This module never asks the running Python whether it knows a name.

Source  CPython 2.7.18, Lib/encodings/__init__.py (search_function), aliases.py, Modules/cjkcodecs, Objects/unicodeobject.c;
        tests/compose/test_python27_codecs.py compares it with recorded results of 2.7.18
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

_TABLE = """
    ascii 646 ansi_x3.4_1968 ansi_x3.4_1986 ansi_x3_4_1968 cp367 csascii ibm367 iso646_us iso_646.irv_1991
        iso_ir_6 us us_ascii
    base64_codec=base64 base64 base_64
    big5 big5_tw csbig5
    big5hkscs big5_hkscs hkscs
    bz2_codec=bz2 bz2
    charmap
    cp037 037 csibm037 ebcdic_cp_ca ebcdic_cp_nl ebcdic_cp_us ebcdic_cp_wt ibm037 ibm039
    cp1006
    cp1026 1026 csibm1026 ibm1026
    cp1140 1140 ibm1140
    cp1250 1250 windows_1250
    cp1251 1251 windows_1251
    cp1252 1252 windows_1252
    cp1253 1253 windows_1253
    cp1254 1254 windows_1254
    cp1255 1255 windows_1255
    cp1256 1256 windows_1256
    cp1257 1257 windows_1257
    cp1258 1258 windows_1258
    cp424 424 csibm424 ebcdic_cp_he ibm424
    cp437 437 cspc8codepage437 ibm437
    cp500 500 csibm500 ebcdic_cp_be ebcdic_cp_ch ibm500
    cp720
    cp737
    cp775 775 cspc775baltic ibm775
    cp850 850 cspc850multilingual ibm850
    cp852 852 cspcp852 ibm852
    cp855 855 csibm855 ibm855
    cp856
    cp857 857 csibm857 ibm857
    cp858 858 csibm858 ibm858
    cp860 860 csibm860 ibm860
    cp861 861 cp_is csibm861 ibm861
    cp862 862 cspc862latinhebrew ibm862
    cp863 863 csibm863 ibm863
    cp864 864 csibm864 ibm864
    cp865 865 csibm865 ibm865
    cp866 866 csibm866 ibm866
    cp869 869 cp_gr csibm869 ibm869
    cp874
    cp875
    cp932 932 ms932 ms_kanji mskanji
    cp949 949 ms949 uhc
    cp950 950 ms950
    euc_jis_2004 euc_jis2004 eucjis2004 jisx0213
    euc_jisx0213 eucjisx0213
    euc_jp eucjp u_jis ujis
    euc_kr euckr korean ks_c_5601 ks_c_5601_1987 ks_x_1001 ksc5601 ksx1001
    gb18030 gb18030_2000
    gb2312 chinese csiso58gb231280 euc_cn euccn eucgb2312_cn gb2312_1980 gb2312_80 iso_ir_58
    gbk 936 cp936 ms936
    hex_codec=hex hex
    hp_roman8=hp-roman8 csHPRoman8 r8 roman8
    hz hz_gb hz_gb_2312 hzgb
    idna
    iso2022_jp csiso2022jp iso2022jp iso_2022_jp
    iso2022_jp_1 iso2022jp_1 iso_2022_jp_1
    iso2022_jp_2 iso2022jp_2 iso_2022_jp_2
    iso2022_jp_2004 iso2022jp_2004 iso_2022_jp_2004
    iso2022_jp_3 iso2022jp_3 iso_2022_jp_3
    iso2022_jp_ext iso2022jp_ext iso_2022_jp_ext
    iso2022_kr csiso2022kr iso2022kr iso_2022_kr
    iso8859_1=iso8859-1
    iso8859_10=iso8859-10 csisolatin6 iso_8859_10 iso_8859_10_1992 iso_ir_157 l6 latin6
    iso8859_11=iso8859-11 iso_8859_11 iso_8859_11_2001 thai
    iso8859_13=iso8859-13 iso_8859_13 l7 latin7
    iso8859_14=iso8859-14 iso_8859_14 iso_8859_14_1998 iso_celtic iso_ir_199 l8 latin8
    iso8859_15=iso8859-15 iso_8859_15 l9 latin9
    iso8859_16=iso8859-16 iso_8859_16 iso_8859_16_2001 iso_ir_226 l10 latin10
    iso8859_2=iso8859-2 csisolatin2 iso_8859_2 iso_8859_2_1987 iso_ir_101 l2 latin2
    iso8859_3=iso8859-3 csisolatin3 iso_8859_3 iso_8859_3_1988 iso_ir_109 l3 latin3
    iso8859_4=iso8859-4 csisolatin4 iso_8859_4 iso_8859_4_1988 iso_ir_110 l4 latin4
    iso8859_5=iso8859-5 csisolatincyrillic cyrillic iso_8859_5 iso_8859_5_1988 iso_ir_144
    iso8859_6=iso8859-6 arabic asmo_708 csisolatinarabic ecma_114 iso_8859_6 iso_8859_6_1987 iso_ir_127
    iso8859_7=iso8859-7 csisolatingreek ecma_118 elot_928 greek greek8 iso_8859_7 iso_8859_7_1987 iso_ir_126
    iso8859_8=iso8859-8 csisolatinhebrew hebrew iso_8859_8 iso_8859_8_1988 iso_ir_138
    iso8859_9=iso8859-9 csisolatin5 iso_8859_9 iso_8859_9_1989 iso_ir_148 l5 latin5
    johab cp1361 ms1361
    koi8_r=koi8-r cskoi8r
    koi8_u=koi8-u
    latin_1=iso8859-1 8859 cp819 csisolatin1 ibm819 iso8859 iso8859_1 iso_8859_1 iso_8859_1_1987 iso_ir_100 l1
        latin latin1
    mac_arabic=mac-arabic
    mac_centeuro=mac-centeuro
    mac_croatian=mac-croatian
    mac_cyrillic=mac-cyrillic maccyrillic
    mac_farsi=mac-farsi
    mac_greek=mac-greek macgreek
    mac_iceland=mac-iceland maciceland
    mac_latin2=mac-latin2 maccentraleurope maclatin2
    mac_roman=mac-roman macroman
    mac_romanian=mac-romanian
    mac_turkish=mac-turkish macturkish
    palmos
    ptcp154 cp154 csptcp154 cyrillic_asian pt154
    punycode
    quopri_codec=quopri quopri quoted_printable quotedprintable
    raw_unicode_escape=raw-unicode-escape
    rot_13=rot-13 rot13
    shift_jis csshiftjis s_jis shiftjis sjis
    shift_jis_2004 s_jis_2004 shiftjis2004 sjis_2004
    shift_jisx0213 s_jisx0213 shiftjisx0213 sjisx0213
    string_escape=string-escape
    tis_620=tis-620 iso_ir_166 tis620 tis_620_0 tis_620_2529_0 tis_620_2529_1
    undefined
    unicode_escape=unicode-escape
    unicode_internal=unicode-internal
    utf_16=utf-16 u16 utf16
    utf_16_be=utf-16-be unicodebigunmarked utf_16be
    utf_16_le=utf-16-le unicodelittleunmarked utf_16le
    utf_32=utf-32 u32 utf32
    utf_32_be=utf-32-be utf_32be
    utf_32_le=utf-32-le utf_32le
    utf_7=utf-7 u7 unicode_1_1_utf_7 utf7
    utf_8=utf-8 u8 utf utf8 utf8_ucs2 utf8_ucs4
    utf_8_sig=utf-8-sig
    uu_codec=uu uu
    zlib_codec=zlib zip zlib
"""
"""A codec's module, = its name if that differs, and its aliases."""


def _read() -> tuple[dict[str, str], dict[str, str]]:
    modules: dict[str, str] = {}
    aliases: dict[str, str] = {}
    module = ""
    for line in _TABLE.strip("\n").splitlines():
        words = line.split()
        if not line.startswith("        "):
            module, _, name = words.pop(0).partition("=")
            modules[module] = name or module
        aliases.update(dict.fromkeys(words, module))
    return modules, aliases


_modules, _aliases = _read()
MODULES: Mapping[str, str] = MappingProxyType(_modules)
"""Module in Python 2.7's `encodings` -> the name its codec gives itself."""
ALIASES: Mapping[str, str] = MappingProxyType(_aliases)

NOT_FOR_TEXT = frozenset(
    "base64_codec bz2_codec hex_codec punycode quopri_codec string_escape uu_codec zlib_codec".split()
)
"""In Python 2.7 these convert octets to octets (punycode raises for octets). Mailman shunts a mail that names one as its
charset. Here such a name is not a charset, so the mail is wrapped and its body goes out unchanged."""

_NO_WORD = re.compile(r"[^a-z0-9.]+")
_CALLED_NOW = {"mac_centeuro": "mac_latin2"}
_PASS_SURROGATES = frozenset("utf_8 utf_8_sig utf_32 utf_32_be utf_32_le".split())
_WRITE_SURROGATES = _PASS_SURROGATES | {"utf_16", "utf_16_be", "utf_16_le"}
_UTF_7 = re.compile(rb"\+-|\+[A-Za-z0-9+/]+-?|\+(?=.)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([4-7][0-7]{2})|(.))", re.DOTALL)
_KNOWN_ESCAPES = b"\n\\'\"abfnrtv01234567xuUN"
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_PAIRS = frozenset(
    "big5 big5hkscs cp932 cp949 cp950 euc_kr gb2312 gbk johab shift_jis shift_jis_2004 shift_jisx0213 gb18030 "
    "euc_jp euc_jis_2004 euc_jisx0213".split()
)


@lru_cache(maxsize=1024)
def module_of(name: str) -> str | None:
    """The module in which Python 2.7 finds the codec of that name; None for a name it does not know."""
    norm = _NO_WORD.sub(" ", name.lower()).strip().replace(" ", "_")
    aliased = ALIASES.get(norm) or ALIASES.get(norm.replace(".", "_"))
    return next((module for module in (aliased, norm) if module in MODULES), None)


def codec_name(name: str) -> str:
    """What `codecs.lookup(name).name` gives under Python 2.7; the name itself where that knows none."""
    module = module_of(name)
    return name if module is None else MODULES[module]


def decode(text: bytes, name: str, errors: str = "strict") -> str:
    """`unicode(text, name, errors)`. Raises UnicodeError, LookupError. For an empty text the charset is ignored."""
    if not text:
        return ""
    module = _text_module(name)
    if module in _SPECIAL:
        return _SPECIAL[module][0](text, errors)
    if errors == "strict":
        errors = "surrogatepass" if module in _PASS_SURROGATES else errors
    elif module in _PAIRS or module in ("utf_8", "utf_8_sig"):
        errors = f"drainer-python27-{errors}"
    return text.decode(_CALLED_NOW.get(module, module), errors)


def encode(text: str, name: str, errors: str = "strict") -> bytes:
    """`text.encode(name, errors)` of a unicode text. Raises UnicodeError, LookupError."""
    module = _text_module(name)
    if module in _SPECIAL:
        return _SPECIAL[module][1](text, errors)
    if errors == "strict" and module in _WRITE_SURROGATES:
        errors = "surrogatepass"
    return text.encode(_CALLED_NOW.get(module, module), errors)


def _text_module(name: str) -> str:
    module = module_of(name)
    if module is None or module in NOT_FOR_TEXT:
        raise LookupError(f"Python 2.7 has no charset {name!r}")
    return module


def _from_rot_13(text: bytes, _: str) -> str:
    return codecs.decode(text.decode("latin-1"), "rot13")


def _to_rot_13(text: str, errors: str) -> bytes:
    return codecs.encode(text, "rot13").encode("latin-1", errors)


def _from_utf_7(text: bytes, errors: str) -> str:
    """In 2.7 a `+` before text that is not base64 ends its own shift; Python 3 rejects it."""
    return _UTF_7.sub(lambda match: b"" if match[0] == b"+" else match[0], text).decode("utf-7", errors)


def _to_utf_7(text: str, errors: str) -> bytes:
    return text.encode("utf-7", errors)


def _from_unicode_internal(text: bytes, errors: str) -> str:
    return text.decode("utf-32-le", "surrogatepass" if errors == "strict" else errors)


def _to_unicode_internal(text: str, _: str) -> bytes:
    return text.encode("utf-32-le", "surrogatepass")


def _from_unicode_escape(text: bytes, errors: str) -> str:
    """In 2.7 an unknown escape stays as it is; Python 3 warns of it."""

    def kept(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return b"\\u%04x" % int(match[1], 8)
        return match[0] if match[2] in _KNOWN_ESCAPES else b"\\" + match[0]

    return _ESCAPE.sub(kept, text).decode("unicode_escape", errors)


def _to_unicode_escape(text: str, errors: str) -> bytes:
    return text.encode("unicode_escape", errors)


_SPECIAL: dict[str, tuple[Callable[[bytes, str], str], Callable[[str, str], bytes]]] = {
    "rot_13": (_from_rot_13, _to_rot_13),
    "utf_7": (_from_utf_7, _to_utf_7),
    "unicode_internal": (_from_unicode_internal, _to_unicode_internal),
    "unicode_escape": (_from_unicode_escape, _to_unicode_escape),
}


def _passing_over(replacement: str) -> Callable[[UnicodeError], tuple[str, int]]:
    """An error handler: the CJK codecs of Python 2.7 skip all octets of a broken character, those of Python 3 only the
    first one; and in 2.7 a lone surrogate is a character."""

    def pass_over(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        octets, start = error.object, error.start
        if error.encoding.startswith("utf-8"):
            surrogate = _SURROGATE.match(octets, start)
            return (surrogate[0].decode("utf-8", "surrogatepass"), start + 3) if surrogate else (replacement, error.end)
        length = 2
        if error.encoding.startswith("euc_j") and octets[start] == 0x8F:
            length = 3
        elif error.encoding == "gb18030" and octets[start + 1 : start + 2].isdigit():
            length = 4
        return replacement, min(start + length, len(octets))

    return pass_over


codecs.register_error("drainer-python27-ignore", _passing_over(""))
codecs.register_error("drainer-python27-replace", _passing_over("\ufffd"))
