"""Running a pipeline that fans out in one process, as the engine would: in order, through JSON in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from callsheet.pipelines.declare import InputFile, Pipeline, StageOutput
from tests.media.running import RecordingContext


class FannedContext(RecordingContext):
    """A StageContext that knows the instances of a fan-out."""

    def instances(self, stage: str) -> tuple[str, ...]:
        return tuple(name for name in self.published if name.partition(":")[0] == stage)


class FannedRun:
    """A pipeline, run stage by stage; a single one may be run again with other params."""

    def __init__(self, pipeline: Pipeline, path: Path, root: Path, params: Any) -> None:
        self.pipeline, self.root, self.params = pipeline, root, params
        self.source = InputFile(path, path.name, "video/mp4", path.stat().st_size)
        self.data: dict[str, Any] = {}
        self.outputs: dict[str, StageOutput] = {}
        self.contexts: dict[str, FannedContext] = {}
        self.failed: dict[str, Exception] = {}

    def run(self) -> FannedRun:
        """Every stage in the order of its declaration; instances that fail are left behind."""
        for declared in self.pipeline.stages:
            spec = declared.spec
            if spec.each is None:
                self.stage(spec.name)
                continue
            for number, item in enumerate(self.outputs[spec.each].items or ()):
                try:
                    self.stage(f"{spec.name}:{number}", item)
                except Exception as error:  # noqa: BLE001  (told to the test)
                    self.failed[f"{spec.name}:{number}"] = error
        return self

    def stage(self, name: str, item: Any = None, params: Any = None, folder: str = "") -> StageOutput:
        """Run one stage."""
        context = FannedContext(self.root, folder or name, params or self.params, self.source, self.data)
        context.item = msgspec.json.decode(msgspec.json.encode(item))
        output = self.pipeline.function(name)(context)
        self.contexts[name], self.outputs[name] = context, output
        self.data[name] = msgspec.json.decode(msgspec.json.encode(output.data))
        return output

    @property
    def result(self) -> dict[str, Any]:
        """As the job merges it: lists under the same name are joined."""
        merged: dict[str, Any] = {}
        for output in self.outputs.values():
            for key, value in output.result.items():
                both = isinstance(value, list) and isinstance(merged.get(key), list)
                merged[key] = [*merged[key], *value] if both else value
        return merged
