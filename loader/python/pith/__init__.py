"""Read .pith model files from Python: zero-copy views, no compiler needed.

    import pith

    with pith.open("model.pith") as model:
        print(model.arch["arch"], len(model))
        norm = model["model.norm.weight"].numpy()          # a view of the map, dense weights
        rows = model["lm_head.weight"].unpack_rows(0, 16)  # any kind, as f32

A view keeps the mapped file alive for as long as it lives; closing the file, or leaving the
with-block, never pulls memory away from under a view.  Views are read-only, like the map.

Dense weights also export themselves over DLPack, bf16 included:

    tensor = torch.from_dlpack(model["model.norm.weight"])

PyTorch has no read-only tensors: writing into such a tensor ends the process.  Copy it first
(tensor.clone()) if it has to change.

The library libpith is looked for in the file named by the environment variable PITH_LIBRARY,
then beside this package, then where the system's loader looks.

SPDX-License-Identifier: Apache-2.0
"""

from ._library import PithError, PithNotFound, library_version
from ._file import File, Weight, open

__all__ = ["File", "PithError", "PithNotFound", "Weight", "library_version", "open"]
