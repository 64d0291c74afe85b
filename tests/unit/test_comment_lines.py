import pytest

from jobs.comment_lines import keep_comments

BEFORE = """\
models:
  a: 1  # of a
  # about b
  b:
    1: x
    # inside of b
    2: y

# the next part
other: 1
"""


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(
            "models:\n  a: 1  # of a\n  # about b\nother: 1\n",
            "models:\n  a: 1  # of a\n  # about b\n\n# the next part\nother: 1\n",
            id="what was removed leaves the comment below",
        ),
        pytest.param(
            BEFORE.replace("other", "    3: z\nother"),
            BEFORE.replace("    2: y\n", "    2: y\n    3: z\n"),
            id="what was added stands above a comment further out",
        ),
        pytest.param(
            BEFORE.replace("    2: y\n\n# the next part\n", "    3: y\n"),
            BEFORE.replace("    2: y\n", "    3: y\n"),
            id="what was replaced leaves the comment below",
        ),
        pytest.param(
            BEFORE.replace("    # inside of b\n    2: y\n", ""),
            BEFORE.replace("    # inside of b\n    2: y\n", ""),
            id="a comment above goes with what it is about",
        ),
        pytest.param(BEFORE + "last: 1\n", BEFORE + "last: 1\n", id="an addition at the end stays there"),
        pytest.param(BEFORE, BEFORE, id="nothing"),
    ],
)
def test_comments_stay_where_they_were(after: str, expected: str) -> None:
    assert keep_comments(BEFORE, after) == expected
