"""Texts out of a checkpoint, as a record may hold them."""


def text(text: str) -> str:
    r"""Give a text as Unicode: a lone surrogate, which no encoding takes, stands as `\\udc80`."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
