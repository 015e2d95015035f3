"""Codes of languages: one for each language, whatever standard and whoever writes it.

Texts are told apart by the two letters of ISO 639-1 where a language has them, else by the three of ISO
639-3. Models and pages also write `zho_Hans`, `cmn-Hani`, `zh-CN`, `chi` or `__label__zh`.
"""

from __future__ import annotations

import re
from functools import cache

UNKNOWN = "und"
"""The ISO 639 code of a language that cannot be told."""

_TERMINOLOGY = """
    aar:aa abk:ab afr:af aka:ak amh:am ara:ar arg:an asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm bel:be
    ben:bn bis:bi bod:bo bos:bs bre:br bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw cos:co cre:cr
    cym:cy dan:da deu:de div:dv dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi
    fra:fr fry:fy ful:ff gla:gd gle:ga glg:gl glv:gv grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi
    hmo:ho hrv:hr hun:hu hye:hy ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv
    jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj
    kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg mah:mh mal:ml mar:mr mkd:mk mlg:mg
    mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no
    nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn
    rus:ru sag:sg san:sa sin:si slk:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc
    srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti ton:to tsn:tn
    tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo wln:wa wol:wo xho:xh yid:yi
    yor:yo zha:za zho:zh zul:zu
"""
"""ISO 639-3 and 639-2/T with ISO 639-1."""
_BIBLIOGRAPHY = """
    alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fre:fr geo:ka ger:de gre:el ice:is mac:mk mao:mi may:ms
    per:fa rum:ro slo:sk tib:bo wel:cy
"""
"""Codes of ISO 639-2/B where those are others."""
_MEMBERS = """
    als:sq arb:ar ayr:ay azj:az cmn:zh ekk:et fil:tl gaz:om gug:gn khk:mn kmr:ku lvs:lv npi:ne ory:or pbt:ps
    pes:fa plt:mg prs:fa quy:qu swh:sw uzn:uz ydd:yi zsm:ms
"""
"""The languages that are meant by the code of several of which they are by far the largest or the standard
one; others, such as Cantonese (yue) or Egyptian Arabic (arz), have codes of their own."""
_FORMER = "iw:he jw:jv in:id ji:yi mo:ro nb:no nn:no nob:no nno:no un:und zxx:und mis:und mul:und"
"""Codes that were withdrawn, those of Norwegian's two forms, and those that are no language's."""

_LABEL = re.compile(r"(?:__label__)?([A-Za-z]{2,3})(?![A-Za-z])")


@cache
def _codes() -> dict[str, str]:
    tables = " ".join((_TERMINOLOGY, _BIBLIOGRAPHY, _MEMBERS, _FORMER))
    return dict(pair.split(":") for pair in tables.split())


def code_of(label: str) -> str:
    """The code of the language that a label or tag begins with; what is no code comes back in lower case.

    Script, region and the prefix of fastText's labels count for nothing.
    """
    found = _LABEL.match(label)
    code = found[1].lower() if found else label.lower()
    return _codes().get(code, code)
