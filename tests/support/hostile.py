"""Names that do harm where a report puts them out as they are: to a terminal, into cells, into markup, into JSON."""

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J",
    "[/red][link=https://evil.example]x[/link]",
    '=HYPERLINK("https://evil.example")',
    "@SUM(A1:A9)",
    "-2+3",
    "\tcell",
    'a,b"c\r\nd',
    "| pipe | `tick` | **bold** |",
    "<script>alert(1)</script>",
    "<!-- comment",
    "</details>",
    "![x](https://evil.example/x.png)",
    "safe\u202etxt.exe\u2066",
    "nul\x00del\x7fcsi\x9b",
    "lone\udc80surrogate",
    "line\u2028separator",
    '{"json": NaN}',
    "",
    "x" * 5_000,
)
