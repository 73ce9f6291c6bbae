import os
import shutil

if shutil.which("nvidia-smi") is None:
    # Before anything imports Triton: its own library is compiled or interpreted from its first import on.
    os.environ.setdefault("TRITON_INTERPRET", "1")
