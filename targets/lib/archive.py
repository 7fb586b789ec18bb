"""Archives that have the same bytes wherever and whenever they are made."""

import gzip
import io
import tarfile


def write(path, folder, members, seconds):
    """Writes a `.tar.gz` below whose `folder` are the members: name -> (contents, mode). `seconds` is their time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (contents, mode) in sorted(members.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(contents), mode, seconds
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(contents))
    with open(path, "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=seconds) as zipped:
        zipped.write(packed.getvalue())
