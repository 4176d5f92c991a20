//! Text of other encodings as UTF-8.

use super::source::Body;
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use mlop_api::{Reason, result::Failure};
use std::io::{self, BufRead, Read};

/// Size of the buffer of decoded text.
const BUFFER_BYTES: usize = 64 << 10;
/// Replaces bytes that are malformed in the encoding. It is never part of UTF-8, so the row is rejected.
const MALFORMED: u8 = 0xff;

/// The encoding that `name` means; none for UTF-8, which needs no decoding.
///
/// # Errors
/// [`Reason::InvalidSpec`] when there is no such encoding.
pub fn named(name: &str) -> Result<Option<&'static Encoding>, Failure> {
    let encoding = Encoding::for_label_no_replacement(name.as_bytes()).ok_or_else(|| {
        let message = format!("source.format.csv.encoding {name:?} is not the name of an encoding");
        Failure::terminal(Reason::InvalidSpec, message)
    })?;
    Ok((encoding != UTF_8).then_some(encoding))
}

/// Decodes `body` from `encoding`, or from the encoding of its byte order mark.
pub fn decoded(body: Body, encoding: &'static Encoding) -> Body {
    Box::new(Decoded {
        body,
        decoder: encoding.new_decoder(),
        text: vec![0; BUFFER_BYTES],
        start: 0,
        end: 0,
        is_done: false,
    })
}

struct Decoded {
    body: Body,
    decoder: Decoder,
    text: Vec<u8>,
    /// What of `text` is not read yet.
    start: usize,
    end: usize,
    is_done: bool,
}

impl BufRead for Decoded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.start == self.end && !self.is_done {
            let input = self.body.fill_buf()?;
            let is_last = input.is_empty();
            // One byte is kept free for the mark of a malformed record.
            let room = self.text.len().saturating_sub(1);
            let output = self.text.get_mut(..room).unwrap_or_default();
            let (outcome, read, written) =
                self.decoder.decode_to_utf8_without_replacement(input, output, is_last);
            self.body.consume(read);
            (self.start, self.end) = (0, written);
            match outcome {
                DecoderResult::InputEmpty => self.is_done = is_last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    if let Some(mark) = self.text.get_mut(written) {
                        *mark = MALFORMED;
                        self.end += 1;
                    }
                }
            }
        }
        Ok(self.text.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Cursor};

    fn decode(bytes: &[u8], name: &str) -> Vec<u8> {
        let mut texts = [1, 3, 64].map(|chunk| {
            let body = BufReader::with_capacity(chunk, Cursor::new(bytes.to_vec()));
            let mut text = Vec::new();
            decoded(Box::new(body), named(name).unwrap().unwrap()).read_to_end(&mut text).unwrap();
            text
        });
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
        std::mem::take(&mut texts[0])
    }

    #[test]
    fn encodings_are_decoded_by_name_and_mark() {
        assert_eq!(decode(b"Troms\xf8", "latin1"), "Tromsø".as_bytes());
        assert_eq!(decode(b"\x80", "windows-1252"), "€".as_bytes());
        assert_eq!(decode(b"\xff\xfeO\0s\0", "utf-16"), b"Os");
        assert_eq!(decode(b"\xfe\xff\0O\0s", "utf-16"), b"Os");
        assert_eq!(decode(b"\xef\xbb\xbfOs", "latin1"), b"Os");
        assert!(named("UTF-8").unwrap().is_none());
    }

    #[test]
    fn malformed_text_is_marked() {
        assert_eq!(decode(b"\xff\xfeO\0\x00\xd8s\0", "utf-16"), b"O\xffs");
        assert_eq!(decode(b"a\xff\xffb", "shift_jis"), b"a\xff\xffb");
    }

    #[test]
    fn unknown_encoding_is_refused() {
        // Of these a browser reads nothing, on purpose.
        for name in ["latin-0", "iso-2022-kr", "hz-gb-2312"] {
            assert_eq!(named(name).unwrap_err().reason, Reason::InvalidSpec, "{name}");
        }
    }
}
