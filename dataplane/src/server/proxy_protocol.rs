//! The header of the PROXY protocol, versions 1 and 2, with which a load balancer says whom it speaks for.

use std::io::{self, Cursor, Error, ErrorKind};
use std::net::IpAddr;

use bytes::BytesMut;
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join};
use tokio::net::TcpStream;

/// A header is much shorter, even with what may be added to version 2.
const LONGEST: usize = 4 << 10;

/// The stream after its header, and the caller's address; none where the balancer speaks for itself.
pub(super) async fn read(
    mut stream: TcpStream,
) -> io::Result<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Option<IpAddr>)> {
    let mut buffer = BytesMut::with_capacity(LONGEST);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let header = HeaderResult::parse(&buffer);
        if header.is_incomplete() {
            if buffer.len() >= LONGEST {
                return Err(Error::new(ErrorKind::InvalidData, "the header is too long"));
            }
            continue;
        }
        let (length, source) = match header {
            HeaderResult::V1(Ok(header)) => (header.header.len(), source_of_v1(&header)),
            HeaderResult::V2(Ok(header)) => (header.len(), source_of_v2(&header)),
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
                return Err(Error::new(ErrorKind::InvalidData, "the connection does not start with one"));
            }
        };
        let rest = buffer.split_off(length).freeze();
        let (reader, writer) = stream.into_split();
        return Ok((join(Cursor::new(rest).chain(reader), writer), source));
    }
}

fn source_of_v1(header: &v1::Header<'_>) -> Option<IpAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    }
}

fn source_of_v2(header: &v2::Header<'_>) -> Option<IpAddr> {
    match (header.command, &header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
        _ => None,
    }
}
