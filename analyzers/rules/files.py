"""Rules about files: the reader refuses such a file, and its refusal is the finding."""

from jaynes_audit.analyzers.rules.rule import Level, Precision, Rule

TRUNCATED_FILE = Rule(
    code="JN001",
    name="truncated-file",
    level=Level.ERROR,
    documentation="""\
The file ends before the data that its header declares, or goes on after it.

Why it matters: a download or an upload was cut short; loaders fail late or read what is not there.
What to do: fetch or export the file again, and compare its size with the source's.
Example: export/model.safetensors: it ends 1,000 bytes before the data that its header declares""",
)

NOT_A_CHECKPOINT = Rule(
    code="JN002",
    name="not-a-checkpoint",
    level=Level.ERROR,
    documentation="""\
The file has the name of a checkpoint and the content of something else: a Git LFS pointer, an error page, another
format.

Why it matters: the weights are not there at all.
What to do: the finding names what the file is and the command that fetches the real one.
Example: model.safetensors: it is a Git LFS pointer, not the file that it stands for; run `git lfs pull`""",
)

BAD_HEADER = Rule(
    code="JN003",
    name="bad-header",
    level=Level.ERROR,
    documentation="""\
The header breaks the format's rules: it cannot be parsed, has a name twice, a size or a count beyond the limit.

Why it matters: loaders differ in what they make of it, so the same file can be two different models.
What to do: write the file again with the format's own library.
Example: model.safetensors: its header has the tensor 'lm_head.weight' twice""",
)

BAD_LAYOUT = Rule(
    code="JN004",
    name="bad-layout",
    level=Level.ERROR,
    documentation="""\
The tensors' byte ranges overlap, leave holes, or do not fit their shapes and number formats.

Why it matters: some weights are not the ones that were saved.
What to do: write the file again with the format's own library.
Example: model.safetensors: the tensors 'a' and 'b' share bytes 4,096 to 8,192""",
)

MISSING_SHARD = Rule(
    code="JN005",
    name="missing-shard",
    level=Level.ERROR,
    documentation="""\
The index names a file that is not there, or the shards' own numbering has a gap.

Why it matters: a part of the model is missing.
What to do: fetch the missing file, or export the model again.
Example: model.safetensors.index.json: it names 'model-00002-of-00003.safetensors', which is not there""",
)

INDEX_MISMATCH = Rule(
    code="JN006",
    name="index-mismatch",
    level=Level.ERROR,
    documentation="""\
The index and the shards disagree on which tensor is in which file.

Why it matters: a shard of another export lies among them, or the index does.
What to do: export the model again into an empty folder.
Example: model.safetensors.index.json: it puts 'lm_head.weight' in a shard that does not hold it""",
)

DIGEST_MISMATCH = Rule(
    code="JN007",
    name="digest-mismatch",
    level=Level.ERROR,
    documentation="""\
A file has another hash than the Hub lists or the baseline keeps for it, or only one of model and baseline has the file.
It is asked with --verify; a baseline has the digests of files where `jaynes baseline write --verify` kept them.

Why it matters: the file was damaged on its way or on the disk, or somebody changed it. Equal weights may be in it all
the same, but it is not the file that was approved.
What to do: fetch it again, out of the cache if it came from the Hub; if it was written anew on purpose, accept it into
the baseline.
Example: export/model.safetensors: its sha256 is 9f2c04d81ab3 where the baseline has 41ab77e0c95d""",
)

UNSUPPORTED_DTYPE = Rule(
    code="JN008",
    name="unsupported-dtype",
    level=Level.WARNING,
    precision=Precision.HIGH,
    documentation="""\
Tensors are stored in a way that this version cannot turn into numbers, such as the codes of an unknown quantiser.

Why it matters: nothing is known of these weights; they are neither judged nor checked.
What to do: audit the checkpoint that was quantised, or one in a format that the documentation lists.
Example: layers.0.qweight: codes of a quantiser that is not known""",
)

ZIP_ANOMALY = Rule(
    code="JN009",
    name="zip-anomaly",
    level=Level.ERROR,
    documentation="""\
The zip archive contradicts itself: its directory and its members disagree, or members overlap, occur twice, are
compressed or encrypted where the format never does so.

Why it matters: two programs may read two different models from the same file, a scanner and a loader for instance.
What to do: do not load it; save the checkpoint again with its own library.
Example: model.pt: its directory has 'archive/data.pkl' twice""",
)

UNSAFE_PICKLE = Rule(
    code="JN020",
    name="unsafe-pickle",
    level=Level.ERROR,
    documentation="""\
The pickle inside a PyTorch file names something that is no data, or does what no honest checkpoint does.

Why it matters: loading such a file in the usual way can run code. Nothing of it was imported or called here.
What to do: do not load it; ask for a safetensors file, or find out what wrote this one.
Example: model.pt: its pickle names posix.system, which is no part of a checkpoint""",
)

PICKLE_CHECKPOINT = Rule(
    code="JN021",
    name="pickle-checkpoint",
    level=Level.NOTE,
    documentation="""\
The weights are stored as a pickle, where safetensors would do. An error with `allow-pickle = "never"`.

Why it matters: whoever loads a pickle in the usual way lets its writer run code.
What to do: save the model with safetensors.
Example: pytorch_model.bin: a pickle; it was read here without being run""",
)

LEGACY_CONTAINER = Rule(
    code="JN022",
    name="legacy-container",
    level=Level.ERROR,
    documentation="""\
The file is of a kind that PyTorch stopped writing long ago (tar archives before 0.1.10), or a bare pickle.

Why it matters: it was not read, so nothing is known of its weights.
What to do: load it where it was made and save it again as safetensors.
Example: model.pt: a tar archive, which PyTorch wrote before 0.1.10""",
)

FILE_RULES: tuple[Rule, ...] = (
    TRUNCATED_FILE,
    NOT_A_CHECKPOINT,
    BAD_HEADER,
    BAD_LAYOUT,
    MISSING_SHARD,
    INDEX_MISMATCH,
    DIGEST_MISMATCH,
    UNSUPPORTED_DTYPE,
    ZIP_ANOMALY,
    UNSAFE_PICKLE,
    PICKLE_CHECKPOINT,
    LEGACY_CONTAINER,
)
