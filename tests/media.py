"""Small images, sounds and files for tests."""

from base64 import b64encode

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels " * 5
JPEG = b"\xff\xd8\xff\xe0" + b"pixels " * 5
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + b"\0" * 20
PDF = b"%PDF-1.7\n" + b"pages " * 5


def encoded(content: bytes) -> str:
    return b64encode(content).decode()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{encoded(content)}"
