"""Write the vectors, and a few text archives, as binary files: seeds for the fuzz targets.  usage: make_seeds.py FOLDER

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import sys

from archive_maker import seeds
from vector_files import vector_files

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for vector in vector_files():
    (folder / vector.name.replace("/", "-").replace(".hex", ".pith")).write_bytes(vector.data)
for name, data in seeds().items():
    (folder / name).write_bytes(data)
