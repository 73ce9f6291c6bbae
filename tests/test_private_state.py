"""Tests look at what is public; where one cannot, it stands here with its reason, and nothing stands here in vain."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

SPOILS = "spoils the state, to see that check_integrity finds it"
PREEMPTS = "forces a preemption, which no command does"
FAULT = "brings a fault between two messages, where no port is"
WORKER = "the operating system's process, to stop or to end it"
INSIDE = "what the test is about has no other outside"
THEIRS = "a library that has no public way"

ALLOWED: dict[str, tuple[set[str], str]] = {
    "tests/actors/books/ways_out.py": ({"_admission", "_ledger", "_supervisor"}, FAULT),
    "tests/actors/clock_workers.py": ({"_connection"}, "the one place where tests read the ledger's file"),
    "tests/actors/control/test_policy_reloader.py": ({"_reloader", "_router"}, FAULT),
    "tests/actors/fakes.py": (
        {"_admission", "_backend_queues", "_breakers", "_budgets", "_quota", "_supervisor", "_timers", "_upstreams"},
        "the one place where the owners' statistics() and check_integrity() are reached",
    ),
    "tests/actors/kernel/test_loop_watchdog.py": ({"_watch"}, "what the thread does, without a thread"),
    "tests/actors/prompt/test_output_constraints.py": ({"_router"}, INSIDE),
    "tests/actors/protocol/test_delivery.py": ({"_items"}, "a closed slot keeps nothing, and has no way to say so"),
    "tests/actors/request/test_emit_through.py": ({"_attempt", "_delivery"}, FAULT),
    "tests/actors/service/test_faults.py": ({"_admission", "_attempt_factory"}, FAULT),
    "tests/actors/service/test_money.py": ({"_attempt_factory"}, "the priority that a queue sees is nowhere published"),
    "tests/actors/service/test_records.py": ({"_breakers", "_open"}, "opens a breaker without thirty failures"),
    "tests/actors/test_service.py": ({"_delivery"}, FAULT),
    "tests/actors/shadows/test_shadows.py": ({"_pairs", "_shadow_book"}, INSIDE),
    "tests/actors/test_supervision_tree.py": ({"_breakers_mail", "_tree"}, FAULT),
    "tests/actors/upstream/test_upstream_actor.py": ({"_backend_queues", "_upstream_keys"}, FAULT),
    "tests/benchmarks/test_smoke.py": ({"_process"}, WORKER),
    "tests/e2e/test_deployment.py": ({"_parser"}, "the commands that the parser knows"),
    "tests/e2e/test_devices.py": ({"_process"}, WORKER),
    "tests/engine/compile_kernels.py": ({"_TILE_WARPS"}, "compiles what the product launches"),
    "tests/engine/conformance.py": ({"_preempt", "_running", "_scheduler"}, PREEMPTS),
    "tests/engine/core/test_loop.py": ({"_next", "_outstanding", "_scheduler"}, SPOILS),
    "tests/engine/core/test_overlap.py": ({"_slots"}, "the device loses its memory"),
    "tests/engine/core/test_quiet_steps.py": (
        {"_blank", "_blocks", "_by_name", "_idle", "_names", "_references", "_running", "_table", "_waiting"},
        "two schedulers must agree in everything, the private part included",
    ),
    "tests/engine/core/test_random_steps.py": ({"_adapters", "_blocks", "_scheduler"}, INSIDE),
    "tests/engine/core/test_time_slices.py": ({"_holders"}, SPOILS),
    "tests/engine/forward/test_graphs.py": ({"_decoder", "_ids"}, INSIDE),
    "tests/engine/hosting/child.py": ({"_exit"}, "a process that ends as a library's fault ends it"),
    "tests/engine/kernels/test_arena.py": ({"_CHUNK_BYTES"}, "a size that the test must exceed"),
    "tests/engine/forward/test_decoder_program.py": ({"_run"}, "counts the programs that ran"),
    "tests/engine/sampling/test_schema_numbers.py": ({"_vocabulary"}, "asks the library itself"),
    "tests/engine/scheduling/test_block_manager.py": ({"_by_name"}, SPOILS),
    "tests/engine/scheduling/test_scheduler.py": ({"_preempt", "_running", "_waiting"}, PREEMPTS),
    "tests/engine/tensor_parallel/test_runner.py": ({"_others", "_process", "_runner"}, WORKER),
    "tests/fault_table/machines.py": ({"_ledger"}, FAULT),
    "tests/fault_table/scene.py": (
        {"_ALLOW_DETERMINISTIC_SCHEDULING", "_r"},
        "the order of tasks is the same each time, as Hypothesis sets it",
    ),
    "tests/faults/test_websocket_faults.py": (
        {"_connections", "_heard_at", "_socket"},
        "a peer that fell silent an hour ago, without an hour",
    ),
    "tests/gateway/cli/test_parser.py": ({"_SubParsersAction", "_actions", "_parser"}, THEIRS),
    "tests/gateway/endpoints/test_ws_session.py": ({"_stream", "_wsproto"}, THEIRS),
    "tests/gateway/simulation/test_simulated_time_slices.py": ({"_finish_step"}, "notes every simulated step"),
    "tests/parity/grid.py": ({"_alive", "_preempt", "_scheduler"}, PREEMPTS),
    "tests/parity/routing.py": ({"_plain", "_weights"}, "makes a router's choice clear in random weights"),
    "tests/parity/test_invariance.py": ({"_alive", "_preempt", "_scheduler"}, PREEMPTS),
    "tests/parity/test_ranks.py": ({"_runner"}, INSIDE),
    "tests/parity/test_triton.py": ({"_decoder"}, INSIDE),
    "tests/policies/admission/test_quota.py": ({"_open"}, SPOILS),
    "tests/policies/admission/test_sliding_window.py": ({"_sum"}, SPOILS),
    "tests/policies/fallback/test_breaker.py": ({"_failed"}, SPOILS),
    "tests/policies/queueing/test_fair_queue.py": ({"_rate"}, SPOILS),
    "tests/policies/queueing/test_placement.py": ({"_replicas"}, SPOILS),
    "tests/policies/queueing/test_quarantine.py": ({"_suspects"}, SPOILS),
    "tests/policies/rollout/test_shadow.py": (
        {"_pairs"},
        "ended pairs must be forgotten, and no figure counts them",
    ),
}
"""By file: the private names, and why."""

PUBLIC = {"_asdict", "_fields", "_make", "_replace"}
"""A named tuple's own."""


def private_names(path: Path) -> Iterator[str]:
    """What a file reads with a leading underscore that is not its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (each.name for each in aliases if each.name.startswith("_"))


def test_private_state_is_read_only_where_a_reason_stands() -> None:
    files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("*.py"))]
    wrong = []
    for file in sorted({*files, *ALLOWED}):
        read = set(private_names(ROOT / file)) - PUBLIC if file in files else set()
        allowed, _ = ALLOWED.get(file, (set(), ""))
        wrong += [f"{file} reads {name}: use what is public, or say here why not" for name in sorted(read - allowed)]
        wrong += [f"{file} does not read {name} any more: take it out here" for name in sorted(allowed - read)]
    assert not wrong, "\n".join(wrong)
