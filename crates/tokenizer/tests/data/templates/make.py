# transformers 4.57.6, jinja2 3.1.6, Python 3.11.7.
"""Writes expected.json: what transformers renders of the templates in this folder.

    pip install transformers==4.57.6 jinja2==3.1.6 && python make.py
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent


def render(source, case, **options):
    try:
        rendered, _ = render_jinja_template(
            [case["messages"]],
            tools=case.get("tools"),
            documents=case.get("documents"),
            chat_template=source,
            add_generation_prompt=case.get("add_generation_prompt", False),
            **case.get("variables", {}),
            **options,
        )
        return {"text": rendered[0]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    conversations = json.loads((HERE / "conversations.json").read_text())
    expressions = (HERE / "expressions.txt").read_text().splitlines()
    found = {"expressions": {}, "templates": {}, "continued": {}}
    for source in expressions:
        found["expressions"][source] = render(source, conversations["expressions"])
    for path in sorted(HERE.glob("*.jinja")):
        results = {}
        for name, case in conversations.items():
            results[name] = render(path.read_text(), case)
        found["templates"][path.name] = results
        found["continued"][path.name] = {
            name: render(path.read_text(), case, continue_final_message=True)
            for name, case in conversations.items()
            if not case["add_generation_prompt"]
        }
    text = json.dumps(found, ensure_ascii=False, indent=0)
    (HERE / "expected.json").write_text(text + "\n")


main()
