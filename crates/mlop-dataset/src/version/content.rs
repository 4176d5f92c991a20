//! Recognition of an object's format by its first bytes.

/// Number of bytes that recognition needs.
pub const START_BYTES: usize = 512;

/// A compression that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    Bzip2,
}

impl Compression {
    /// The compression of an object that begins with `start`.
    pub fn of(start: &[u8]) -> Option<Self> {
        // A bzip2 stream has a block, or ends at once, behind its level.
        let is_bzip2 = start.starts_with(b"BZh")
            && start
                .get(4..10)
                .is_some_and(|magic| magic == b"1AY&SY" || magic == b"\x17\x72\x45\x38\x50\x90");
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or one to skip: pzstd and seekable files begin with such.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ if is_bzip2 => Some(Self::Bzip2),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Beginnings of formats that are no delimited text, with their names.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"PAR1", "Parquet: use source.format.parquet"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"{\\rtf", "RTF: save it as plain text"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet (xlsx): unpack or export it before the upload"),
    (b"\xfd7zXZ\x00", "compressed with xz: use gzip, zstd or bzip2"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: use gzip, zstd or bzip2"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with snappy: use gzip, zstd or bzip2"),
    (b"\x1f\x9d", "compressed with compress: use gzip, zstd or bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it before the upload"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"ARROW1", "Arrow IPC"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet (xls): export it as CSV"),
    (b"%PDF-", "PDF"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"\x89HDF", "HDF5"),
    (b"crc\0", "a checksum of Hadoop: leave it out with include"),
    (b"\x80\x04\x95", "a Python pickle"),
];

/// The description of a page.
pub const HTML: &str = "HTML, perhaps the page of an error or a login";
/// Where a tar archive says that it is one.
const TAR: (std::ops::Range<usize>, &[u8]) = (257..262, b"ustar");

/// The format of an object that begins with `start` and the field to set for it, unless it is delimited text in UTF-8.
pub fn describe(start: &[u8]) -> Option<&'static str> {
    if let Some(compression) = Compression::of(start) {
        return Some(match compression {
            Compression::Gzip => "gzip, packed more than twice",
            Compression::Zstd => "zstd, packed more than twice",
            Compression::Bzip2 => "bzip2, packed more than twice",
        });
    }
    if let Some(name) = signed(start) {
        return Some(name);
    }
    if start.get(TAR.0) == Some(TAR.1) {
        return Some("a tar archive: unpack it before the upload");
    }
    if start.starts_with(b"\xff\xfe\0\0") || start.starts_with(b"\0\0\xfe\xff") {
        return Some("UTF-32: save it as UTF-8");
    }
    if !start.is_empty() && start.iter().all(|byte| *byte == 0) {
        return Some("nothing but zero bytes: upload it again");
    }
    if is_utf16(start) {
        return Some("UTF-16: set source.format.csv.encoding to utf-16");
    }
    let text = String::from_utf8_lossy(start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start));
    let text = text.trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return Some(HTML);
    }
    if text.starts_with("<?xml") {
        return Some("XML");
    }
    if text.starts_with('{') || text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'))
    {
        return Some("JSON: use source.format.ndjson for one object per line");
    }
    if text.starts_with("version https://git-lfs") {
        return Some("a pointer of Git LFS, not the file");
    }
    None
}

/// The format whose signature `start` has. Letters alone may be a header, unless binary content follows.
fn signed(start: &[u8]) -> Option<&'static str> {
    let is_binary = is_binary(start);
    let is_letters = |signature: &[u8]| signature.iter().all(u8::is_ascii_alphanumeric);
    let found = SIGNATURES
        .iter()
        .find(|(signature, _)| start.starts_with(signature) && (is_binary || !is_letters(signature)));
    found.map(|(_, name)| *name)
}

/// Whether `start` has control characters that no text has.
pub fn is_binary(start: &[u8]) -> bool {
    start.iter().any(|byte| *byte < b'\t')
}

/// Whether text begins with a mark of UTF-16, or has a zero byte in most pairs as Latin letters have.
pub fn is_utf16(start: &[u8]) -> bool {
    let pairs = start.chunks_exact(2);
    let with_zero =
        pairs.clone().filter(|pair| matches!(pair, [0, other] | [other, 0] if *other != 0)).count();
    start.starts_with(b"\xff\xfe")
        || start.starts_with(b"\xfe\xff")
        || pairs.len() >= 4 && with_zero * 10 >= pairs.len() * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> [u8; START_BYTES] {
        let mut start = [b'a'; START_BYTES];
        start[TAR.0].copy_from_slice(TAR.1);
        start
    }

    #[test]
    fn objects_are_known_by_their_beginning() {
        for (start, name) in [
            (&b"PAR1\x15\x04"[..], "Parquet"),
            (b"PK\x03\x04\x14\0", "zip"),
            (b"\xff\xfei\0d\0", "UTF-16"),
            (b"i\0d\0,\0a\0\n\0", "UTF-16"),
            (b"\0i\0d\0,\0a", "UTF-16"),
            (b"\n<!DOCTYPE html><html>", "HTML"),
            (b"{\"id\": 1}\n", "ndjson"),
            (b"crc\0\0\0\x02\0", "Hadoop"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x05\x06\0\0", "zip"),
            (b"\xff\xfe\0\0i\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0i", "UTF-32"),
            (b"\0\0\0\0\0\0\0\0\0\0", "zero bytes"),
            (b"{\\rtf1\\ansi", "RTF"),
            (b"[\n  {\"id\": 1}]", "JSON"),
            (&tar(), "tar"),
        ] {
            assert!(describe(start).is_some_and(|text| text.contains(name)), "{name}");
        }
        for start in [
            &b"id,city\n1,Oslo\n"[..],
            b"",
            b"\xef\xbb\xbfid\n",
            b"a,b\n1,x\0y\n",
            b"ORCID,name\n",
            b"PAR1,b\n",
        ] {
            assert_eq!(describe(start), None);
        }
    }

    #[test]
    fn header_that_begins_like_bzip2_is_text() {
        assert_eq!(Compression::of(b"BZhora,b\n1,2\n"), None);
        assert_eq!(Compression::of(b"BZh91AY&SY\0\0"), Some(Compression::Bzip2));
        assert_eq!(Compression::of(b"P*,b\n1,2\n"), None);
    }
}
