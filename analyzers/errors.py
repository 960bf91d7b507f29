"""Every error that is raised on purpose, as one tree.

JaynesError
├── UsageError          the command was misused: a bad option, a pattern that no tool could follow
├── NothingToAudit      no target matched, or nothing in it is a weight
├── CouldNotRead        the machine said no: a missing file, a permission, a cut connection
└── RefusedFile         the file was read and is not a sound checkpoint: the auditor's own finding

The first three end a command. The last never does: it becomes a finding beside what could be read.
"""


class JaynesError(Exception):
    """An error whose message is one sentence for the user: what, where, and what to do."""


class UsageError(JaynesError):
    """The command or the function was called in a way that has no meaning."""


class NothingToAudit(JaynesError):
    """The target exists, but there is no weight tensor in it, or no target matched at all."""


class CouldNotRead(JaynesError):
    """A file or a server did not give its bytes, for a reason that lies outside the checkpoint."""


class RefusedFile(JaynesError):
    """A file's own content shows that it is not the sound checkpoint it claims to be.

    `rule` is the code of the rule that reports it, `case` a short stable name of the exact defect,
    and the message the sentence that tells it.
    """

    def __init__(self, message: str, *, rule: str, case: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.case = case
