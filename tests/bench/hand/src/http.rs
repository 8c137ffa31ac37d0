//! HTTP/1.1 on a kept connection, to servers that give each body's length.

use std::io::{Error, ErrorKind, Read, Result, Write};

/// What a server answered.
pub struct Answer<'a> {
    head: &'a str,
    pub body: &'a [u8],
}

impl Answer<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// Sends a request, and waits for its answer, which has to be a success.
pub fn exchange<'a>(stream: &mut (impl Read + Write), received: &'a mut Vec<u8>, request: &[u8]) -> Result<Answer<'a>> {
    stream.write_all(request)?;
    stream.flush()?;
    received.clear();
    let head = loop {
        more(stream, received)?;
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let length = str::from_utf8(&received[..head]).ok().and_then(|head| header(head, "content-length"));
    let length: usize = length.and_then(|length| length.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    while received.len() < head + length {
        more(stream, received)?;
    }
    let (head, body) = received.split_at(head);
    let head = str::from_utf8(head).map_err(Error::other)?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(Error::other(format!("{head}{}", String::from_utf8_lossy(body))));
    }
    Ok(Answer { head, body })
}

fn more(stream: &mut impl Read, received: &mut Vec<u8>) -> Result<()> {
    let mut some = [0; 8192];
    match stream.read(&mut some)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => {
            received.extend_from_slice(&some[..length]);
            Ok(())
        }
    }
}
