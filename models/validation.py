"""What pydantic finds wrong, in one sentence for the person who wrote it."""

from pydantic import ValidationError


def first_fault(error: ValidationError, whole: str = "") -> str:
    """The first field that is wrong and why; `whole` stands for what was read where it is wrong as a whole."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or whole
    return f"{field}: {first['msg']}" if field else str(first["msg"])
