"""Names that DNS takes, made of names that frameworks give: labels, hashes, whole names.

Source: spec/dns-lb-autoscale.md §1.6 and §1.7. Names are text with dots and without the last one;
none holds a dot or anything unprintable within a label.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

#: RFC 1123 §2.1 and, for `EnforceRFC952`, the original's reading of RFC 952.
MAX_LABEL: Final = 63
MAX_LABEL_952: Final = 24

#: A name takes one octet more per label, and one at the end, of the 255 that the wire allows.
MAX_NAME: Final = 253

#: Letters of z-base-32, by their value.
_ZBASE32: Final = "ybndrfg8ejkmcpqxot1uwisza345h769"

#: Characters of a task's hash, five bits each.
_HASH_CHARS: Final = 5

#: One expression, since every record of every task is looked at.
_NAME: Final = re.compile(r"(?:[!-\-/-~]{1,63}\.)*[!-\-/-~]{1,63}")


class _Table(dict[int, str | None]):
    """For `str.translate`: whatever is not in the table is dropped."""

    def __missing__(self, code: int) -> None:
        return None


_TABLE: Final = _Table(
    {
        **{ord(char): char for char in "abcdefghijklmnopqrstuvwxyz0123456789"},
        **{ord(char): char.lower() for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
        **{ord(char): "-" for char in "-._"},
    }
)


def label(text: str, rfc952: bool = False) -> str:
    """`text` as one label: lower case, `.` and `_` as dashes, everything else dropped; maybe empty.

    A long one is cut, dashes at the cut are left out, and what follows them fills their places.
    """
    clean = text.translate(_TABLE)
    clean = clean.lstrip("-0123456789" if rfc952 else "-").rstrip("-")
    longest = MAX_LABEL_952 if rfc952 else MAX_LABEL
    if len(clean) <= longest:
        return clean
    head = clean[:longest].rstrip("-")
    rest = clean[longest:].lstrip("-")
    return (head + rest[: longest - len(head)]).rstrip("-")


def domain_part(text: str, rfc952: bool = False) -> str:
    """`text` as labels joined by dots, empty ones dropped: how the names of frameworks are used."""
    return ".".join(part for piece in text.split(".") if (part := label(piece, rfc952)))


def underscored(text: str) -> str:
    """`_text`, its first label cut to fit: the underscore counts, which the original forgets."""
    first, dot, others = text.partition(".")
    return "_" + first[: MAX_LABEL - 1].rstrip("-") + dot + others


def task_hash(task_id: str) -> str:
    """What tells tasks of one name apart: 25 bits of the SHA-1 of the id, in z-base-32."""
    digest = hashlib.sha1(task_id.encode(), usedforsecurity=False).digest()
    bits = int.from_bytes(digest[:4], "big") >> (32 - 5 * _HASH_CHARS)
    shifts = range(5 * (_HASH_CHARS - 1), -1, -5)
    return "".join(_ZBASE32[bits >> shift & 31] for shift in shifts)


def agent_tail(agent_id: str) -> str:
    """The last piece of an agent's id, `s12` for `…-S12`."""
    return label(agent_id.rpartition("-")[2])


def canonical(task: str, task_id: str, agent_id: str) -> str:
    """The first label (or labels) of a task's own name: `nginx-9g7b9-s0`.

    Cut to what a label may hold. The original leaves it longer, and then cannot answer for it.
    """
    suffix = "-".join(part for part in (task_hash(task_id), agent_tail(agent_id)) if part)
    if not task:
        return suffix[:MAX_LABEL]
    before, dot, last = task.rpartition(".")
    last = last[: max(0, MAX_LABEL - 1 - len(suffix))].rstrip("-")
    return before + dot + f"{last}-{suffix}"[:MAX_LABEL]


def is_name(text: str) -> bool:
    """Whether `text` can be asked for: labels of 1 to 63 visible ASCII characters, 253 in all."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None
