"""Comment lines of a YAML file that was edited: they stay beside what they stood beside.

ruamel hangs a comment line on the value above it, so it goes when that value goes, and ends up inside a mapping that
grows.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher


def keep_comments(before: str, after: str) -> str:
    """The edited text, with the comment lines below what was removed, and those below what was added moved back."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    kept: list[str] = []
    for tag, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        removed, added = old[i:i_end], new[j:j_end]
        if tag == "insert":
            further_out = _further_out(kept, added[0])
            kept[len(kept) - len(further_out) :] = [*added, *further_out]
            continue
        kept.extend(added)
        if tag != "equal":
            kept.extend(_lost(removed, added))
    return "".join(kept)


def _lost(removed: Sequence[str], added: Sequence[str]) -> list[str]:
    """The comment lines that end what was removed, and are no part of it."""
    lines: list[str] = []
    for line in reversed(removed):
        if not _is_comment(line) or (line.strip() and _indent(line) > _indent(removed[0])):
            break
        lines.insert(0, line)
    gone = [line for line in lines if line not in added]
    return gone if any(line.strip() for line in gone) else []


def _further_out(kept: Sequence[str], added: str) -> list[str]:
    """The comment lines at the end that are less indented than the line that comes behind them."""
    lines: list[str] = []
    for line in reversed(kept):
        if not _is_comment(line) or (line.strip() and _indent(line) >= _indent(added)):
            break
        lines.insert(0, line)
    return lines


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
