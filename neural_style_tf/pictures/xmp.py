"""XMP: the description of a photo as RDF -> the part that holds for its painting.

Kept is what describes the subject, the author and the rights. What programs do with a file by it is
left out: development settings, histories, gain maps, films and thumbnails at places in the file,
sizes and orientation. ISO 16684-1.
"""

from xml.etree import ElementTree

MOST_BYTES = 1_000_000
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'  # as 7.3.2 has it
_TAIL = '<?xpacket end="r"?>'
# The prefix and the address of each namespace, and what is kept of it: all, or these names.
_KEPT: dict[str, tuple[str, tuple[str, ...]]] = {
    "dc": (  # all but the format of the photo's file
        "http://purl.org/dc/elements/1.1/",
        (
            *("contributor", "coverage", "creator", "date", "description", "identifier"),
            *("language", "publisher", "relation", "rights", "source", "subject", "title", "type"),
        ),
    ),
    "xmp": ("http://ns.adobe.com/xap/1.0/", ("CreateDate", "Rating", "Label", "Nickname")),
    "xmpRights": ("http://ns.adobe.com/xap/1.0/rights/", ()),
    "photoshop": (
        "http://ns.adobe.com/photoshop/1.0/",
        (
            *("AuthorsPosition", "CaptionWriter", "Category", "City", "Country", "Credit"),
            *("DateCreated", "Headline", "Instructions", "Source", "State", "Urgency"),
            *("SupplementalCategories", "TransmissionReference"),
        ),
    ),
    "Iptc4xmpCore": ("http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", ()),
    "Iptc4xmpExt": ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", ()),
    "plus": ("http://ns.useplus.org/ldf/xmp/1.0/", ()),
    "cc": ("http://creativecommons.org/ns#", ()),
    "lr": ("http://ns.adobe.com/lightroom/1.0/", ("hierarchicalSubject",)),
}


def for_painting(data: bytes) -> bytes | None:
    """The XMP of a painting, from that of its photo; None if nothing remains. Raises `SyntaxError`,
    `ValueError` or `RuntimeError` for what is not XMP."""
    if len(data) > MOST_BYTES or b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise ValueError("too long, or with declarations")  # which may define entities
    source = ElementTree.fromstring(data.decode("utf-8-sig").strip("\0 \r\n\t"))
    for prefix, (address, _) in (*_KEPT.items(), ("rdf", (_RDF, ())), ("x", (_META, ()))):
        ElementTree.register_namespace(prefix, address)
    description = ElementTree.Element(f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    # The first, since there is one; others within its values would be written once per level.
    rdf = next(source.iter(f"{{{_RDF}}}RDF"), None)
    for properties in [] if rdf is None else rdf.findall(f"{{{_RDF}}}Description"):
        description.attrib |= {name: value for name, value in properties.items() if _is_kept(name)}
        description.extend(child for child in properties if _is_kept(child.tag))
    if len(description.attrib) == 1 and not len(description):
        return None
    meta = ElementTree.Element(f"{{{_META}}}xmpmeta")
    ElementTree.SubElement(meta, f"{{{_RDF}}}RDF").append(description)
    return f"{_HEAD}{ElementTree.tostring(meta, 'unicode')}{_TAIL}".encode()


def _is_kept(name: str) -> bool:
    for address, names in _KEPT.values():
        if name.startswith(f"{{{address}}}"):
            return not names or name.partition("}")[2] in names
    return False
