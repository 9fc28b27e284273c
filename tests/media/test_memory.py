"""Memory does not grow with the length of a recording."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.conftest import Make

MEASURE = """
import json, sys
from pathlib import Path
from callsheet.media import audio, probe, quality, recognise, speech

def peak():
    # not getrusage: its figure begins with that of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024

short, long, model, wav = map(Path, sys.argv[1:])
peaks, found = [], []
for source in (short, long):
    facts = probe.probe(source)
    audio.to_speech_wav(source, facts, wav)
    quality.measure_file(source, facts.audio_index, facts.speech_track.rate)
    heard = speech.find_speech(wav)
    text = recognise.recognise(wav, heard.regions, model)
    peaks.append(peak())
    found.append([facts.duration, len([word for said in text.utterances for word in said.words])])
print(json.dumps([peaks, found]))
"""


@pytest.mark.timeout(300)
def test_an_hour_takes_hardly_more_memory_than_eleven_seconds(
    make: Make, jfk: Path, base_model: Path, tmp_path: Path
) -> None:
    hour = make("hour.flac", "-i", jfk, "-af", "apad=whole_dur=3600", "-compression_level", "0")
    command = [sys.executable, "-c", MEASURE, str(jfk), str(hour), str(base_model), str(tmp_path / "speech.wav")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    (short, long), found = json.loads(done.stdout)
    assert [seconds for seconds, _ in found] == [11.0, 3600.0]
    assert [words for _, words in found] == pytest.approx([22, 22], abs=2)  # not every processor hears the same
    assert long - short < 100  # MiB; the hour as one array of the original would be 1,270, of the mono mix 230
    assert long < 550
