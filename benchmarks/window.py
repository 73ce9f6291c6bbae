"""How often an answer in mode `window` comes from two models, and how often that makes it wrong.

    python -m benchmarks.window [--questions 1000] [--seed 1] [--window 4]

The embedded models as shipped, in a whole service, greedy. Mixed: text of the small model was sent, then the large one
continued. Spoilt: the answer is wrong, but the large model alone answers the same question correctly.
"""

import argparse
import logging
from pathlib import Path
from random import Random

import msgspec
import structlog
import trio

from actors.service import Service
from benchmarks.verified.service import BenchAnswer, ask
from config.load import load_settings
from config.model.settings import LedgerSettings, Settings
from config.profiles import embedded_profile
from engine.zoo.tasks import held_out_questions
from gateway.engine_factories import engine_factories


def settings_of(window: int) -> Settings:
    settings = load_settings(embedded_profile())
    cascades = {
        name: msgspec.structs.replace(cascade, emit=msgspec.structs.replace(cascade.emit, window=window))
        for name, cascade in settings.cascades.items()
    }
    return msgspec.structs.replace(settings, ledger=LedgerSettings(path=Path(":memory:")), cascades=cascades)


async def measure(arguments: argparse.Namespace) -> None:
    questions = held_out_questions(Random(arguments.seed), arguments.questions)
    settings = settings_of(arguments.window)
    results: dict[str, list[BenchAnswer]] = {"penstock": [], "large": []}
    async with trio.open_nursery() as nursery:
        service = Service(settings, engine_factories(settings))
        await nursery.start(service.run)
        while not service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
            await trio.sleep(0.01)
        for question in questions:
            for model, answers in results.items():
                answers.append(await ask(service, model, question.prompt))
        nursery.cancel_scope.cancel()
    large = [one for one in results["penstock"] if one.served.rung == "large"]
    mixed = [one for one in large if one.began_on == "small"]
    right = {
        model: [one.text == question.answer for one, question in zip(answers, questions, strict=True)]
        for model, answers in results.items()
    }
    spoilt = sum(
        one.began_on != one.served.rung and not ours and alone
        for one, ours, alone in zip(results["penstock"], right["penstock"], right["large"], strict=True)
    )
    count = len(questions)
    print(f"window {arguments.window}, {count} questions of seed {arguments.seed}")
    print("| ended by the large model | mixed | spoilt | right | large alone right |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    shares = (len(large), len(mixed), spoilt, sum(right["penstock"]), sum(right["large"]))
    print(f"| {' | '.join(f'{each} ({each / count:.1%})' for each in shares)} |")


if __name__ == "__main__":
    from engine.threads import prepare_environment

    prepare_environment()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.window")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--window", type=int, default=4)
    trio.run(measure, parser.parse_args())
