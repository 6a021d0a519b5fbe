"""Tests of `run`, which runs the commands of the guide."""

import importlib.machinery
import importlib.util
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader("guide_run", str(Path(__file__).with_name("run")))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("guide_run", LOADER))
LOADER.exec_module(run)

# An example that accepts `--data` and `--smoke`, and writes its arguments to a file.
EXAMPLE = """#!/bin/sh
case "$*" in
*--help*) echo "  --data <DATA>  --smoke" ;;
*fail*) echo "no such data" >&2; exit 1 ;;
*) echo "$@" >> arguments; cp arguments "$COPY" ;;
esac
"""


class Pages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "bin").mkdir()
        (self.folder / "data").mkdir()
        (self.folder / "data" / "people").write_text("x")
        example = self.folder / "bin" / "train"
        example.write_text(EXAMPLE.replace("$COPY", str(self.folder / "ran")))
        example.chmod(0o755)

    def page(self, text):
        page = self.folder / "page.md"
        page.write_text(text)
        return run.run_page(page, run.Examples(self.folder / "bin"), self.folder / "data")

    def problem(self, text):
        with self.assertRaises(run.Problem) as found:
            self.page(text)
        return str(found.exception)

    def test_commands_run_with_smoke_settings(self):
        text = "<!-- given: people -->\n```sh\ncargo run --release --example train  # minutes\n"
        text += "A=1 cargo run --release -p reid-onnx --example train -- \\\n    --data people\n```\n"
        self.assertEqual(self.page(text), (2, 0))
        self.assertEqual((self.folder / "ran").read_text(), "--smoke\n--data people --smoke\n")

    def test_a_command_that_fails_is_a_problem(self):
        message = self.problem("\n```sh\ncargo run --example train -- --data fail\n```\n")
        self.assertIn("line 2", message)
        self.assertIn("no such data", message)

    def test_unknown_commands_need_a_reason(self):
        for command in ("cargo install x", "ls", "cargo run --features cuda --example train"):
            text = f"```sh\n{command}\n```\n"
            self.assertIn("not run: reason", self.problem(text))
            self.assertEqual(self.page(f"<!-- not run: a test -->\n{text}"), (0, 1))

    def test_a_reason_belongs_to_a_block(self):
        self.assertIn("a code block after", self.problem("<!-- not run: x -->\ntext\n```sh\nls\n```\n"))

    def test_options_must_exist_also_where_nothing_runs(self):
        command = "cargo run --features cuda --example train -- --dat people"
        self.assertIn("no option --dat", self.problem(f"<!-- not run: a test -->\n```sh\n{command}\n```\n"))
        self.assertIn("no option --dat", self.problem("Run `train -- --dat people`.\n"))
        self.assertIn("does not exist", self.problem("Run `other -- --data people`.\n"))
        self.assertEqual(self.page("Run `train -- --data people`.\n"), (0, 0))

    def test_other_languages_are_parsed_or_need_a_reason(self):
        self.assertEqual(self.page('```json\n{"a": 1}\n```\n```toml\na = 1\n```\n```rust\nx\n```\n'), (0, 0))
        for text in ("```json\n{a}\n```\n", "```toml\na\n```\n", "```python\nx\n```\n"):
            self.problem(text)

    def test_what_is_given_must_be_prepared(self):
        self.assertIn("given: dog", self.problem("<!-- given: dog -->\n```sh\ncargo run --example train\n```\n"))

    def test_messages_must_be_in_the_source(self):
        run.check_messages("| `holds a run: resume it` | a |\n| `the run was started with … training images` | b |\n")
        for text in ("| `no such message of ours` | a | b |\n", "no table\n"):
            with self.assertRaises(run.Problem):
                run.check_messages(text)


if __name__ == "__main__":
    unittest.main()
