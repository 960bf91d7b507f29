"""Golden reports: text files that can be read as they are."""

from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode


class Text(SingleFileSnapshotExtension):
    """A golden report in a file of its own."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT
