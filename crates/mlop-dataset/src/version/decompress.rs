//! Undoes compression, which is recognized by its content.

use super::{
    content::{Compression, START_BYTES},
    source::{Body, Carried},
};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Size of the buffer between decompression and parsing.
const BUFFER_BYTES: usize = 256 << 10;
/// Times that an object may be compressed: some tools compress files that are compressed already.
const LAYERS_MAX: usize = 2;

/// A body and its first bytes, which are still in it.
pub struct Started {
    pub start: Vec<u8>,
    pub body: Body,
}

/// Looks at the beginning of `body`.
///
/// # Errors
/// As reading it says.
pub fn start(mut body: Body) -> io::Result<Started> {
    let mut start = Vec::with_capacity(START_BYTES);
    body.by_ref().take(START_BYTES as u64).read_to_end(&mut start)?;
    Ok(Started { body: Box::new(Cursor::new(start.clone()).chain(body)), start })
}

/// `body` without compression.
///
/// # Errors
/// As reading it says. Damaged content shows when it is read.
pub fn decompressed(body: Body) -> io::Result<Started> {
    let mut started = start(body)?;
    for _ in 0..LAYERS_MAX {
        let Some(compression) = Compression::of(&started.start) else { break };
        let packed = started.body;
        let unpacked: Box<dyn Read + Send> = match compression {
            Compression::Gzip => Box::new(Members::new(packed)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        };
        let named = Named { unpacked, compression };
        started = start(Box::new(BufReader::with_capacity(BUFFER_BYTES, named)))?;
    }
    Ok(started)
}

/// Names the compression in its errors.
struct Named {
    unpacked: Box<dyn Read + Send>,
    compression: Compression,
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.unpacked.read(buffer).map_err(|error| {
            let is_named =
                error.get_ref().is_some_and(|inner| inner.is::<Carried>() || inner.is::<Damaged>());
            if is_named { error } else { io::Error::other(Damaged(self.compression, error.to_string())) }
        })
    }
}

/// Compressed content that cannot be read.
#[derive(Debug)]
pub struct Damaged(Compression, String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "is not whole {}: {}", self.0.as_str(), self.1)
    }
}

impl std::error::Error for Damaged {}

/// The members of a gzip file, one after the other. Zeros between and behind them are padding, as gzip(1) has it.
struct Members {
    /// None while the next member is looked for, and at the end.
    member: Option<GzDecoder<Body>>,
}

impl Members {
    fn new(body: Body) -> Self {
        Self { member: Some(GzDecoder::new(body)) }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut body) = self.member.take().map(GzDecoder::into_inner) else { break };
            if skip_zeros(&mut body)? {
                self.member = Some(GzDecoder::new(body));
            }
        }
        Ok(0)
    }
}

/// Reads zeros; whether something is left behind them.
fn skip_zeros(body: &mut Body) -> io::Result<bool> {
    loop {
        let chunk = body.fill_buf()?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let zeros = chunk.iter().take_while(|byte| **byte == 0).count();
        let next = chunk.get(zeros).copied();
        body.consume(zeros);
        match next {
            Some(0x1f) => return Ok(true),
            Some(_) => {
                let message = "bytes that are not gzip follow its end";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            None => {}
        }
    }
}
