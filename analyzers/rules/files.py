"""Rules about files: the reader refuses such a file, and its refusal is the finding."""

from jaynes_audit.analyzers.rules.rule import Level, Rule

TRUNCATED_FILE = Rule(
    code="JN001",
    name="truncated-file",
    level=Level.ERROR,
    documentation="""\
The file ends before the data that its header declares, or goes on after it.

Why it matters: a download or an upload was cut short; loaders fail late or read what is not there.
What to do: fetch or export the file again, and compare its size with the source's.""",
)

NOT_A_CHECKPOINT = Rule(
    code="JN002",
    name="not-a-checkpoint",
    level=Level.ERROR,
    documentation="""\
The file has the name of a checkpoint and the content of something else: a Git LFS pointer, an error page, another
format.

Why it matters: the weights are not there at all.
What to do: the finding names what the file is and the command that fetches the real one.""",
)

BAD_HEADER = Rule(
    code="JN003",
    name="bad-header",
    level=Level.ERROR,
    documentation="""\
The header breaks the format's rules: invalid JSON, a name twice, metadata that are no strings, a size beyond the limit.

Why it matters: loaders differ in what they make of it, so the same file can be two different models.
What to do: write the file again with the safetensors library.""",
)

BAD_LAYOUT = Rule(
    code="JN004",
    name="bad-layout",
    level=Level.ERROR,
    documentation="""\
The tensors' byte ranges overlap, leave holes, or do not fit their shapes and number formats.

Why it matters: some weights are not the ones that were saved.
What to do: write the file again with the safetensors library.""",
)

MISSING_SHARD = Rule(
    code="JN005",
    name="missing-shard",
    level=Level.ERROR,
    documentation="""\
The index names a file that is not there, or the shards' own numbering has a gap.

Why it matters: a part of the model is missing.
What to do: fetch the missing file, or export the model again.""",
)

INDEX_MISMATCH = Rule(
    code="JN006",
    name="index-mismatch",
    level=Level.ERROR,
    documentation="""\
The index and the shards disagree on which tensor is in which file.

Why it matters: a shard of another export lies among them, or the index does.
What to do: export the model again into an empty folder.""",
)

FILE_RULES: tuple[Rule, ...] = (
    TRUNCATED_FILE,
    NOT_A_CHECKPOINT,
    BAD_HEADER,
    BAD_LAYOUT,
    MISSING_SHARD,
    INDEX_MISMATCH,
)
