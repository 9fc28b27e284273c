"""A transcript as documents: text with times, plain text, JSON, Word, and a document in reading order.

Where speakers were told apart a line names its speaker; where they were not, it has only its time: nothing is invented.
The same transcript always gives the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import docx
import msgspec

from callsheet.media.transcript import UNPRINTABLE, Chapter, Paragraph, Transcript, Utterance, speaker_label

NOTHING = "(no speech was found)"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def clock(seconds: float) -> str:
    """`MM:SS`, past an hour `H:MM:SS`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"


def timed_text(transcript: Transcript) -> str:
    """One line an utterance: `[MM:SS] Speaker 1: words`, or `[MM:SS] words` without speakers."""
    lines = [f"[{clock(u.start)}] {_voice(u.speaker)}{u.text}" for u in transcript.utterances]
    return "\n".join(lines or [NOTHING]) + "\n"


def plain_text(transcript: Transcript) -> str:
    """The paragraphs, an empty line between them; nothing where nothing was said."""
    return f"{transcript.text}\n" if transcript.text else ""


def transcript_json(transcript: Transcript) -> bytes:
    """The transcript as it is, indented."""
    return msgspec.json.format(msgspec.json.encode(transcript), indent=2) + b"\n"


def _voice(speaker: int | None) -> str:
    return "" if speaker is None else f"{speaker_label(speaker)}: "


def document_json(transcript: Transcript) -> bytes:
    """The document in reading order: blocks (paragraphs), each with its sentences as they were spoken. Times are whole
    milliseconds of the source."""
    spoken = {utterance.id: utterance for utterance in transcript.utterances}
    document = {
        "version": 1,
        "language": transcript.language,
        **({"translated_to": "en"} if transcript.translated else {}),
        "duration_ms": _ms(transcript.duration),
        **({"summary": transcript.summary} if transcript.summary else {}),
        **({"chapters": [_chapter(c) for c in transcript.chapters]} if transcript.chapters else {}),
        "speakers": [{"id": s.id, "label": s.label} for s in transcript.speakers],
        "blocks": [_block(p, [spoken[i] for i in p.utterances]) for p in transcript.paragraphs],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _block(paragraph: Paragraph, utterances: list[Utterance]) -> dict[str, Any]:
    confidences = [word.confidence for utterance in utterances for word in utterance.words]
    return {
        "id": f"p{paragraph.id}",
        "type": "paragraph",
        "start_ms": _ms(paragraph.start),
        "end_ms": _ms(paragraph.end),
        "speaker": paragraph.speaker,
        "confidence": round(sum(confidences) / len(confidences), 4),
        "text": paragraph.text,
        "utterances": [_line(utterance) for utterance in utterances],
    }


def _line(utterance: Utterance) -> dict[str, Any]:
    return {
        "id": f"u{utterance.id}",
        "start_ms": _ms(utterance.start),
        "end_ms": _ms(utterance.end),
        "speaker": utterance.speaker,
        "confidence": utterance.confidence,
        "text": utterance.text,
    }


def _chapter(chapter: Chapter) -> dict[str, Any]:
    return {"title": chapter.title, "start_ms": _ms(chapter.start), "end_ms": _ms(chapter.end)}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def docx_bytes(transcript: Transcript, title: str = "Transcript") -> bytes:
    """A Word document: a heading, a line of facts, and the paragraphs, each after its time and speaker in bold."""
    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.author = ""
    document.core_properties.comments = ""
    document.add_heading(title, level=1)
    document.add_paragraph(_facts(transcript))
    if transcript.summary:
        document.add_heading("Summary", level=2)
        document.add_paragraph(UNPRINTABLE.sub("", transcript.summary))
        for chapter in transcript.chapters:
            document.add_paragraph(f"[{clock(chapter.start)}] {chapter.title}")
        document.add_heading("Text", level=2)
    for paragraph in transcript.paragraphs:
        line = document.add_paragraph()
        line.add_run(f"[{clock(paragraph.start)}] {_voice(paragraph.speaker)}").bold = True
        line.add_run(paragraph.text)
    if not transcript.paragraphs:
        document.add_paragraph(NOTHING)
    buffer = io.BytesIO()
    document.save(buffer)
    return _undated(buffer.getvalue())


def _facts(transcript: Transcript) -> str:
    facts = [f"Length {clock(transcript.duration)}", f"{transcript.word_count} words"]
    if transcript.language:
        facts.append(f"language {transcript.language}")
    if transcript.translated:
        facts.append("translated to English")
    return ", ".join([*facts, f"model {transcript.model}"])


def _undated(archive: bytes) -> bytes:
    """The same ZIP without the time at which it was written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            info = zipfile.ZipInfo(entry.filename, ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(entry))
    return buffer.getvalue()
