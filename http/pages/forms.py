"""The page at /try: the jobs there are, and a form for each pipeline, made from the JSON Schema of its params, that
starts a job and shows it.

Its script speaks the API like any other client. Nothing comes from another host.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from callsheet.actors.pipelines import Pipelines
from callsheet.http.pages.docs import STYLE, digest, prose
from callsheet.http.pages.fields import params_fields
from callsheet.http.represent import pipeline_json
from callsheet.http.schemas import PipelineInfo
from callsheet.jobs.events import BODIES

# How it speaks to the service, fields, a job, the forms, the list of jobs: each stands on those before it.
SCRIPT = "".join(
    (Path(__file__).parent / f"{name}.js").read_text() for name in ("service", "fields", "view", "forms", "jobs")
)
# The page may run this very script, which may speak to this service and show pictures that it made, and nothing else.
POLICY = (
    f"default-src 'none'; script-src '{digest(SCRIPT)}'; style-src '{digest(STYLE)}'; connect-src 'self'; "
    "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_EVENTS = 300  # lines shown of a job
MOST_JOBS = 20
_KEY = "<p><label>Key <input id=key type=password autocomplete=off></label> <span class=soft>Kept nowhere.</span>"
_JOBS = (
    f"<section class=jobs aria-labelledby=jobs data-most={MOST_JOBS} hidden>"
    f"<h2 id=jobs>Jobs, the newest {MOST_JOBS}</h2><div><p class=soft role=status></p><table>"
    "<thead><tr><th scope=col>File<th scope=col>Pipeline<th scope=col>Status<th scope=col>Progress<th scope=col>Age"
    "</thead><tbody></tbody></table></div><template><tr><th scope=row><button type=button dir=auto></button>"
    "<td class=pipeline><td class=status><td><progress max=1 aria-label=Progress></progress><td><time></time></tr>"
    "</template></section>"
)


def forms_page(pipelines: Pipelines, *, needs_keys: bool) -> bytes:
    """The whole page."""
    forms = "".join(_form(pipeline_json(pipeline)) for pipeline in pipelines.values())
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Callsheet: try it</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f'<style>{STYLE}</style></head><body data-events="{" ".join(BODIES)}">'
        "<h1>Try it</h1><p>Each form sends what its pipeline takes to this service, and shows the job as it runs. "
        'How a program does that: <a href="/docs">the API</a>.</p><noscript>The forms need JavaScript.</noscript>'
        f"{_KEY if needs_keys else ''}{_JOBS}<h2>Pipelines</h2>{forms}<script>{SCRIPT}</script></body></html>\n"
    ).encode()


def _form(info: PipelineInfo) -> str:
    name = escape(info.name)
    return (
        f'<article id="try-{name}" aria-label="{name}"><header><h3>{name}</h3></header>{prose(info.description)}'
        f'<form data-pipeline="{name}"><p><label>File <input type=file name=file required></label>'
        f"{params_fields(info.params)}<p><button>Start</button></form>{_view(name)}</article>"
    )


def _view(name: str) -> str:
    """Where a job of the pipeline is shown."""
    return (
        f'<section class=job hidden tabindex=-1 aria-label="A job of {name}"><p><strong role=status></strong> '
        "<bdi class=file></bdi> <code></code><p role=alert></p><div class=whole>"
        "<progress max=1 aria-label=Progress></progress>"
        "<form class=again><p><button type=button name=cancel disabled>Cancel</button> <label>Retry from "
        "<select name=stage disabled></select></label> <button name=retry disabled>Retry</button></form>"
        "<h4>Artifacts</h4><ul class=artifacts></ul><div class=pictures></div>"
        f"<h4>Events, the newest {MOST_EVENTS}</h4><div class=events tabindex=0 role=region aria-label=Events>"
        f"<ol data-most={MOST_EVENTS}></ol></div><h4>Result</h4><pre tabindex=0></pre></div></section>"
    )
