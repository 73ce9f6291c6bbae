"""The evaluation harness of EleutherAI: `local-completions` and `local-chat-completions`, on a task of our own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.scripts.features import URL, run

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/questions.jsonl}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
{rest}
"""
QUESTIONS = [
    {"question": "17 + 25 =", "answer": " 42", "choices": [" 42", " 43"], "label": 0},
    {"question": "2 + 2 =", "answer": " 4", "choices": [" 5", " 4"], "label": 1},
]
CHOICE = """\
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc}]"""
GENERATE = """\
doc_to_target: answer
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]"""


def evaluate(kind: str, rest: str, model: str, path: str, words: str = "") -> None:
    """Raises `AssertionError` if there is no score."""
    with TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "questions.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in QUESTIONS))
        (folder / "ours.yaml").write_text(TASK.format(name="ours", folder=folder, kind=kind, rest=rest))
        arguments = f"model=large,base_url={URL}{path},num_concurrent=2,max_retries=1"
        arguments += f",tokenizer={os.environ['PENSTOCK_TOKENIZER']},tokenizer_backend=huggingface"
        command = Path(sys.executable).with_name("lm_eval")
        subprocess.run(
            f"{command} --model {model} --model_args {arguments} --include_path {folder} --tasks ours"
            f" --output_path {folder}/out {words}".split(),
            check=True,
            stdout=sys.stderr,
        )
        [found] = folder.glob("out/**/results*.json")
        scores = json.loads(found.read_text())["results"]["ours"]
        assert any(isinstance(value, float) for value in scores.values()), scores


if __name__ == "__main__":
    run(
        {
            "`local-completions`, log-likelihoods": lambda: evaluate(
                "multiple_choice", CHOICE, "local-completions", "/v1/completions"
            ),
            "`local-completions`, generation": lambda: evaluate(
                "generate_until", GENERATE, "local-completions", "/v1/completions"
            ),
            "`local-chat-completions`, generation": lambda: evaluate(
                "generate_until",
                GENERATE,
                "local-chat-completions",
                "/v1/chat/completions",
                "--apply_chat_template",
            ),
        }
    )
