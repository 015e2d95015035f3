"""Kinds of HTML elements, by what their tags do to open elements (WHATWG HTML, 13.2.4 and 13.2.6)."""

from __future__ import annotations

_NAMES = str.split
VOID = frozenset(_NAMES("area base br col embed hr image img input keygen link meta param source track wbr"))
"""Elements that hold nothing."""
FORMATTING = frozenset(_NAMES("a b big code em font i nobr s small strike strong tt u"))
"""Elements that are opened again in the next block where one ends before they do."""
HEADINGS = frozenset(_NAMES("h1 h2 h3 h4 h5 h6"))
BODIES = frozenset(_NAMES("tbody thead tfoot"))
"""Elements around a table's rows."""
TABLE = frozenset(_NAMES("caption colgroup tbody thead tfoot tr td th"))
"""Elements that a table alone may hold."""
IGNORED = frozenset(_NAMES("html head body frame frameset"))
"""Elements whose tags change nothing once the page has begun."""
BLOCKS = HEADINGS | frozenset(
    _NAMES(
        "address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure "
        "footer form header hgroup li listing main menu nav ol p plaintext pre search section summary ul"
    )
)
"""Elements whose start ends a paragraph."""
MARKING = frozenset(_NAMES("td th caption applet marquee object template"))
"""Elements within which nothing is opened again that began outside."""
SCOPES = MARKING | {"table", "select"}
"""Elements that hide from end tags within them what began outside."""
SPECIAL = BLOCKS | SCOPES | TABLE | {"button", "noscript"}
"""Elements across which the end tag of an inline one closes nothing."""
WITHIN_FORMATTING = frozenset(_NAMES("button select applet marquee object"))
"""Special elements that stand within the formatting elements that are opened again."""
SEEN = frozenset(_NAMES("area br embed image img input wbr"))
"""Elements that hold nothing, and stand within those formatting elements too."""
UNDER_ITEMS = frozenset(_NAMES("address div p"))
"""Special elements that may lie between an item and the next that ends it."""
HOLDS_HTML = {
    "svg": frozenset(_NAMES("foreignobject desc")),
    "math": frozenset(_NAMES("mi mo mn ms mtext")),
}
"""Elements of drawings and formulas that hold HTML again."""
ISLANDS = frozenset().union(*HOLDS_HTML.values(), _NAMES("title annotation-xml"))
"""All of them, with those whose content needs no look where the page's depth is measured."""
OUT_OF_FOREIGN = HEADINGS | frozenset(
    _NAMES(
        "b big blockquote body br center code dd div dl dt em embed head hr i img li listing menu meta "
        "nobr ol p pre ruby s small span strike strong sub sup table tt u ul var"
    )
)
"""Elements whose start ends a drawing or a formula."""
FONT_ATTRIBUTES = frozenset(_NAMES("color face size"))
"""Attributes with which a font element ends them too."""
