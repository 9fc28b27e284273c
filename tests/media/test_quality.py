"""The quality figures are those that the signals were made to have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media.audio import Samples
from callsheet.media.quality import Quality, measure, measure_file, quality_score
from tests.media.conftest import Make

RATE = 16_000


def sine(seconds: float, amplitude: float) -> npt.NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)


def noise(seconds: float, rms: float) -> npt.NDArray[np.float64]:
    return np.random.default_rng(7).normal(0, rms, int(seconds * RATE))


def figures(*channels: npt.NDArray[np.float64], block: int = 5_000) -> Quality:
    signal: Samples = np.stack(channels).astype(np.float32)
    return measure((signal[:, at : at + block] for at in range(0, signal.shape[1], block)), RATE)


def codes(quality: Quality) -> list[str]:
    return [warning.code for warning in quality.warnings]


def test_a_sine_has_the_level_and_the_peak_of_its_amplitude() -> None:
    found = figures(sine(4, 0.5))
    assert found.peak_amplitude == pytest.approx(0.5, abs=0.001)
    assert found.rms_level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert found.silence_ratio == 0.0
    assert found.clipping_ratio == 0.0


@pytest.mark.parametrize("snr", [6.0, 12.0, 20.0, 30.0, 45.0])
def test_speech_like_bursts_over_noise_have_the_snr_they_were_mixed_at(snr: float) -> None:
    hiss = 0.2 / np.sqrt(2) / 10 ** (snr / 20)
    burst = sine(3, 0.2)
    quiet = np.zeros(3 * RATE)
    found = figures(np.concatenate([burst, quiet, burst, quiet]) + noise(12, hiss))
    # what is measured is (signal + noise) / noise, and the quietest tenth of noise lies a little under its mean
    assert found.snr_db == pytest.approx(10 * np.log10(10 ** (snr / 10) + 1), abs=0.7)


def test_digital_silence_is_poor() -> None:
    found = figures(np.zeros(4 * RATE))
    assert (found.level, found.snr_db, found.silence_ratio, found.rms_level_db) == ("poor", -10.0, 1.0, -96.0)
    assert codes(found) == ["low_snr", "mostly_silence", "low_level"]


def test_half_silence_is_half_silent() -> None:
    found = figures(np.concatenate([sine(2, 0.5), np.zeros(2 * RATE)]))
    assert found.silence_ratio == pytest.approx(0.5, abs=0.01)


def test_what_lies_39_db_under_the_peak_is_not_silence_and_41_db_is() -> None:
    for below, expected in ((39.0, 0.0), (41.0, 0.5)):
        quiet = sine(2, 0.5 * 10 ** (-below / 20))
        assert figures(np.concatenate([sine(2, 0.5), quiet])).silence_ratio == pytest.approx(expected, abs=0.01)


def test_clipped_samples_are_counted() -> None:
    clipped = np.clip(sine(4, 2.0), -1, 1)
    expected = float(np.mean(np.abs(clipped) >= 0.99))
    found = figures(clipped)
    assert found.clipping_ratio == pytest.approx(expected, abs=1e-4)
    assert "clipping" in codes(found)


def test_opposite_phases_do_not_cancel() -> None:
    tone = sine(4, 0.5)
    assert figures(tone, -tone) == figures(tone, tone)


def test_clipping_on_one_channel_is_seen() -> None:
    found = figures(np.clip(sine(4, 2.0), -1, 1), np.zeros(4 * RATE))
    assert found.peak_amplitude == 1.0
    assert found.clipping_ratio > 0.1


def test_a_quiet_recording_is_warned_about() -> None:
    assert "low_level" in codes(figures(sine(4, 0.05)))


@pytest.mark.parametrize(("snr", "level"), [(5.0, "poor"), (12.0, "fair"), (18.0, "good"), (35.0, "excellent")])
def test_levels_follow_the_figures(snr: float, level: str) -> None:
    hiss = noise(8, 0.2 / np.sqrt(2) / 10 ** (snr / 20))
    assert figures(np.concatenate([sine(6, 0.2), np.zeros(2 * RATE)]) + hiss).level == level


def test_the_score_is_the_weighted_sum() -> None:
    assert quality_score(30, 0, 0) == 1.0
    assert quality_score(15, 0.4, 0.025) == pytest.approx(0.25 + 0.15 + 0.1)
    assert quality_score(-10, 1, 1) == 0.0


@settings(deadline=None)
@given(block=st.integers(50, 9_000))
def test_the_size_of_the_blocks_makes_no_difference(block: int) -> None:
    signal = np.concatenate([sine(0.4, 0.5), noise(0.3, 0.01)])
    assert figures(signal, block=block) == figures(signal, block=len(signal))


def test_the_original_channels_are_measured_not_the_mono_mix(make: Make) -> None:
    path = make("a.flac", "-f", "lavfi", "-i", "aevalsrc=0.5*sin(880*t)|-0.5*sin(880*t):sample_rate=44100:duration=3")
    assert measure_file(path, 0, 44_100).peak_amplitude == pytest.approx(0.5, abs=0.001)


def test_real_speech_is_excellent(jfk: Path) -> None:
    found = measure_file(jfk, 0, 44_100)
    assert (found.level, found.warnings) == ("excellent", ())
