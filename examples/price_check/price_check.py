"""Prices of goods, collected at several places at once and compared with what they should be.

Nothing here is media: a pipeline may do anything. The input is a sheet (CSV: `product,expected`); the places are those
in `places.json` beside this file, each a URL that answers with a JSON object `{"product": price}`.

    CALLSHEET_PIPELINES=price_check:price_check PYTHONPATH=examples/price_check make run
    curl -F pipeline=price_check -F file=@examples/price_check/expected.csv http://127.0.0.1:8080/v1/jobs
"""

import csv
import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec

from callsheet import OutputFile, RetryPolicy, StageContext, StageError, StageOutput, pipeline, stage

PLACES = Path(__file__).with_name("places.json")
MAX_ANSWER = 1 << 20  # bytes


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may choose."""

    places: Annotated[tuple[str, ...], msgspec.Meta(description="Where to ask; all known places if empty.")] = ()
    tolerance: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="How far a price may be off, as a share of the expected one.")
    ] = 0.01


@stage
def read(run: StageContext) -> StageOutput:
    """Read the sheet, and say where to ask."""
    known = json.loads(PLACES.read_text())
    if unknown := sorted(set(run.params.places) - set(known)):
        raise StageError("unknown_place", f"{unknown[0]!r} is not one of {', '.join(known)}")
    with run.input.path.open(newline="", errors="replace") as sheet:
        rows = list(csv.DictReader(sheet))
    try:
        expected = {row["product"]: str(Decimal(row["expected"])) for row in rows}
    except (KeyError, TypeError, InvalidOperation):
        raise StageError("bad_sheet", "the sheet needs the columns 'product' and 'expected', a number") from None
    if not expected:
        raise StageError("bad_sheet", "the sheet is empty")
    places = run.params.places or tuple(known)
    return StageOutput(data={"expected": expected}, items=tuple({"name": n, "url": known[n]} for n in places))


@stage(needs=(read,), each=read, queue="io", may_fail=True, deadline=60, retry=RetryPolicy(tries=3, base=0.2))
def collect(run: StageContext) -> StageOutput:
    """Ask one place. One that does not answer is left out; the others count all the same."""
    place = run.item["name"]
    run.progress(0.1, f"asking {place}")
    try:
        with httpx.stream("GET", run.item["url"], timeout=10, follow_redirects=False) as answer:
            answer.raise_for_status()
            body = b"".join(_at_most(answer, MAX_ANSWER))
        prices = {product: str(Decimal(str(price))) for product, price in json.loads(body).items()}
    except httpx.HTTPError as error:
        raise StageError("place_away", f"{place}: {type(error).__name__}", retryable=True) from None
    except (ValueError, AttributeError, InvalidOperation):
        raise StageError("bad_answer", f"{place} did not answer with prices") from None
    return StageOutput(data={"place": place, "prices": prices})


@stage(needs=(read, collect))
def compare(run: StageContext) -> StageOutput:
    """One row for each product and place, and what is wrong."""
    expected = {product: Decimal(price) for product, price in run.data("read")["expected"].items()}
    answers = [run.data(name) for name in run.instances("collect")]
    rows = []
    for answer in answers:
        for product, wanted in expected.items():
            found = answer["prices"].get(product)
            rows.append([product, answer["place"], wanted, found or "", _verdict(wanted, found, run.params.tolerance)])
    with (run.folder / "prices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["product", "place", "expected", "found", "verdict"], *rows])
    verdicts = [row[-1] for row in rows]
    result: dict[str, Any] = {verdict: verdicts.count(verdict) for verdict in ("ok", "differs", "missing")}
    result["places"] = [answer["place"] for answer in answers]
    return StageOutput(files=(OutputFile("prices.csv", "text/csv", artifact=True),), result=result)


def _at_most(answer: httpx.Response, limit: int) -> Iterator[bytes]:
    taken = 0
    for piece in answer.iter_bytes():
        taken += len(piece)
        if taken > limit:
            raise ValueError("too long an answer")
        yield piece


def _verdict(expected: Decimal, found: str | None, tolerance: float) -> str:
    if found is None:
        return "missing"
    return "ok" if abs(Decimal(found) - expected) <= abs(expected) * Decimal(str(tolerance)) else "differs"


price_check = pipeline(
    "price_check", read, collect, compare, params=Params, description="Compare prices at several places with a sheet."
)
