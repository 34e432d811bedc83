"""Image formats: those that are decoded, the extensions of their files, and their magic bytes."""

FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "DIB", "PPM", "GIF", "TIFF", "AVIF", "JPEG2000", "QOI", "SGI", "SUN", "PCX", "TGA",
)  # fmt: skip
"""Pillow's names of the formats that are decoded; Pillow tries no other decoder. Its JPEG decoder opens MPO files too,
and then reports the format MPO."""

EXTENSIONS = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "jif": "JPEG", "mpo": "JPEG",
    "png": "PNG", "apng": "PNG", "webp": "WEBP", "bmp": "BMP", "dib": "DIB",
    "ppm": "PPM", "pgm": "PPM", "pbm": "PPM", "pnm": "PPM", "gif": "GIF", "tif": "TIFF", "tiff": "TIFF",
    "avif": "AVIF", "jp2": "JPEG2000", "j2k": "JPEG2000", "j2c": "JPEG2000", "jpc": "JPEG2000", "jpf": "JPEG2000",
    "jpx": "JPEG2000", "qoi": "QOI", "sgi": "SGI", "rgb": "SGI", "rgba": "SGI", "bw": "SGI", "ras": "SUN", "sun": "SUN",
    "pcx": "PCX", "tga": "TGA", "icb": "TGA", "vda": "TGA", "vst": "TGA",
}  # fmt: skip
"""File extension in lower case -> format. The content of a file decides; the extension is a hint."""

_USUAL_EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "SUN": "ras"}


def fitting_extension(image_format: str, extension: str | None) -> str:
    """Return `extension` if it is one of the format's, otherwise the format's usual extension."""
    if extension in EXTENSIONS and EXTENSIONS[extension] == image_format:
        return extension
    usual = _USUAL_EXTENSIONS.get(image_format)
    return usual or next(name for name, named in EXTENSIONS.items() if named == image_format)


NOT_DECODED = {
    "HEIF": "convert it to JPEG or PNG; Pillow would need the plug-in pillow-heif",
    "JPEG XL": "convert it to JPEG or PNG; Pillow would need the plug-in pillow-jxl-plugin",
    "ICO": "convert it to PNG",
    "PSD": "convert it to PNG",
    "SVG": "it holds no pixels; convert it to PNG",
}
"""Formats that `sniff` recognises and that are not decoded -> what the user can do."""

SNIFFED_BYTES = 256
"""Number of first bytes of a file that `sniff` needs."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"qoif", "QOI"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "SUN"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
    (b"8BPS", "PSD"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def sniff(head: bytes) -> str | None:
    """Return the image format of a file that begins with `head`, one of `FORMATS` or `NOT_DECODED`; None if unknown.

    Formats without a distinctive beginning (TGA) are not recognised.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # two reserved fields, which keep texts out
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[:1] == b"\x0a" and head[1:2] in b"\0\2\3\4\5" and head[2:3] in b"\0\1":
        return "PCX"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(12, min(len(head), int.from_bytes(head[:4], "big")))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in _HEIF_BRANDS):
            return "HEIF"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return None
