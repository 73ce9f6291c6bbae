"""Whether the model directories that a configuration names hold what a model needs; nothing is loaded for it."""

from config.settings import Settings


def model_file_problems(settings: Settings) -> list[str]:
    """One sentence for each file or folder that is missing or cannot be read."""
    problems: list[str] = []
    for name, engine in settings.engines.items():
        if not engine.model.is_dir():
            problems.append(f"engine '{name}': there is no model directory {engine.model}")
            continue
        for file in (engine.model / "config.json", engine.model / "tokenizer.json"):
            try:
                file.open("rb").close()
            except OSError as error:
                problems.append(f"engine '{name}': {file} cannot be read: {error.strerror}")
        if not any(engine.model.glob("*.safetensors")):
            problems.append(f"engine '{name}': {engine.model} holds no *.safetensors file")
    return problems
