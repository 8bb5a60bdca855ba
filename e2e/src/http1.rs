//! HTTP/1.1 as it stands on the wire: names in their own case, values as bytes, nothing tidied up.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

pub type Headers = Vec<(String, String)>;

#[derive(Debug, Clone)]
pub struct Head {
    pub start_line: String,
    pub headers: Headers,
}

/// A body with its trailers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub body: Vec<u8>,
    pub trailers: Headers,
}

pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

pub fn to_latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

impl Head {
    /// `None` where the connection ends before a head starts.
    pub async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Self>> {
        let Some(start_line) = line(reader).await? else {
            return Ok(None);
        };
        Ok(Some(Self { start_line, headers: fields(reader).await? }))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    pub fn content_length(&self) -> Option<usize> {
        self.header("Content-Length").and_then(|value| value.parse().ok())
    }
}

async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\n") {
        Some(line) => Ok(Some(latin1(line.strip_suffix(b"\r").unwrap_or(line)))),
        None if line.is_empty() => Ok(None),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Header or trailer lines, to the empty one.
async fn fields(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Headers> {
    let mut fields = Headers::new();
    loop {
        let line = line(reader).await?.ok_or(ErrorKind::UnexpectedEof)?;
        match line.split_once(':') {
            Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
            None if line.is_empty() => return Ok(fields),
            None => {
                return Err(Error::new(ErrorKind::InvalidData, "a header line without a colon"));
            }
        }
    }
}

/// Reads a chunked body into `message`, which keeps what came before an error.
pub async fn read_chunked(reader: &mut (impl AsyncBufRead + Unpin), message: &mut Message) -> Result<()> {
    while read_chunk_into(reader, message).await? {}
    Ok(())
}

/// The next chunk; `None` where the body ends.
pub async fn read_chunk(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>> {
    let mut message = Message::default();
    Ok(read_chunk_into(reader, &mut message).await?.then_some(message.body))
}

async fn read_chunk_into(reader: &mut (impl AsyncBufRead + Unpin), message: &mut Message) -> Result<bool> {
    let size = line(reader).await?.ok_or(ErrorKind::UnexpectedEof)?;
    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "no chunk size"))?;
    if size == 0 {
        message.trailers = fields(reader).await?;
        return Ok(false);
    }
    read_exactly(reader, size, message).await?;
    line(reader).await?;
    Ok(true)
}

/// The same for a body of known length.
pub async fn read_exactly(
    reader: &mut (impl AsyncBufRead + Unpin),
    length: usize,
    message: &mut Message,
) -> Result<()> {
    let read = reader.take(length as u64).read_to_end(&mut message.body).await?;
    if read == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
