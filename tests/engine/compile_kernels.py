"""Compiles the Triton kernels for a GPU, which need not be present, in the shapes of Llama-3.1-8B and Gemma 2.

python tests/engine/compile_kernels.py [90]

Run without TRITON_INTERPRET. Prints one line of JSON per kernel: its name, registers and bytes of stack per thread.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine.forward.triton_kernels import _TILE_WARPS, columns
from engine.gpu import triton_code as code

HALF, FULL, DOUBLE, INTS, LONGS = "*bf16", "*fp32", "*fp64", "*i32", "*i64"
KINDS = {
    HALF: "queries keys values out qkv added gate_up",
    FULL: "partial_sums partial_peaks partial_totals residual weight q_norm k_norm cosines sines logits cuts "
    "best_values second_values",
    DOUBLE: "inverse drawn_values",
    INTS: "counts starts contexts spans tables piece_sequences piece_splits tile_sequences tile_firsts decodes "
    "first_pieces positions slots",
    LONGS: "seeds best_places drawn_places",
    "i32": "table_width width vocab parts",
    "fp32": "scale cap eps",
}
TYPES = {name: kind for kind, names in KINDS.items() for name in names.split()}
SHAPE = {"HEADS": 32, "KV_HEADS": 8, "HEAD_DIM": 128, "DIM_BLOCK": 128}
ATTENTION = {**SHAPE, "WINDOW": 0, "CAP": False, "BLOCK_SIZE": 16, "COLUMNS": columns(128), "WIDE": False}
GEMMA = {
    **ATTENTION,
    "HEADS": 8,
    "KV_HEADS": 4,
    "HEAD_DIM": 256,
    "DIM_BLOCK": 256,
    "COLUMNS": columns(256),
    "WINDOW": 4096,
    "CAP": True,
}
TILES = {"TILE_TOKENS": 16, "GROUP_BLOCK": 4, "ROWS": 64}
KERNELS: list[tuple[Any, dict[str, Any], dict[str, int]]] = [
    (code.attend_splits, {**ATTENTION, "GROUP_BLOCK": 16}, {}),
    (code.attend_splits, {**GEMMA, "GROUP_BLOCK": 16}, {}),
    (code.attend_tiles, {**ATTENTION, **TILES}, {"num_warps": _TILE_WARPS}),
    (code.attend_tiles, {**GEMMA, "TILE_TOKENS": 32, "GROUP_BLOCK": 2, "ROWS": 64}, {"num_warps": _TILE_WARPS}),
    (code.join_splits, {**SHAPE, "GROUP_BLOCK": 16}, {}),
    (code.write_kv, {**SHAPE, "NORM": True, "ROTARY": 128, "BLOCK_SIZE": 16, "GROUP_BLOCK": 4}, {}),
    (code.add_norm, {"ADD": True, "BLOCK": 4096}, {}),
    (code.gate, {"GELU": True, "BLOCK": 1024}, {}),
    (code.pick_part, {"DRAW": True, "BLOCK": 2048}, {}),
]


def usage(kernel: Any, constants: dict[str, Any], options: dict[str, int], target: GPUTarget) -> dict[str, Any]:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else TYPES[name] for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(ASTSource(kernel, signature, constexprs=values), target=target, options=options)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        told = subprocess.run([tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True)
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", told.stdout)[0]
    return {"kernel": kernel.__name__, "registers": int(registers), "stack": int(stack)}


if __name__ == "__main__":
    assert not os.environ.get("TRITON_INTERPRET")
    target = GPUTarget("cuda", int(sys.argv[1]) if len(sys.argv) > 1 else 90, 32)
    for kernel, constants, options in KERNELS:
        sys.stdout.write(json.dumps(usage(kernel, constants, options, target)) + "\n")
