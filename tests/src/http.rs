//! A small HTTP client that shows what came, follows nothing, and can send what no proper client would.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use crate::site::PATIENCE;

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }
}

/// A request to a URL of plain http, which must be answered.
pub fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is not of http"));
    let (address, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    send(None, address, method, target.as_bytes(), headers, body).unwrap_or_else(|e| panic!("{method} {url}: {e}"))
}

/// Sends a request, its target byte for byte as given, and reads the whole answer. `from`: one of this machine's addresses, of which
/// 127.0.0.0/8 has many; any, if none is named.
///
/// # Errors
/// The connection's.
pub fn send(
    from: Option<IpAddr>,
    address: &str,
    method: &str,
    target: &[u8],
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = connect(from, address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [method.as_bytes(), b" ", target, b" HTTP/1.1"].concat();
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.extend_from_slice(format!("\r\nhost: {address}").as_bytes());
    }
    for (name, value) in headers {
        request.extend_from_slice(format!("\r\n{name}: {value}").as_bytes());
    }
    request.extend_from_slice(format!("\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    // A server may answer, and close, before it has read all of a request that it refuses.
    let _ = stream.write_all(&request);
    receive(stream)
}

/// Connects, from one of this machine's addresses.
///
/// # Errors
/// The connection's.
pub fn connect(from: Option<IpAddr>, address: &str) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(address) };
    let to: SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Reads the whole answer to a request that was sent, after which the server closes the connection.
///
/// # Errors
/// The connection's.
pub fn receive(mut stream: TcpStream) -> io::Result<Answer> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other(format!("no answer: {}", String::from_utf8_lossy(&answer))))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let body = match (chunked, length) {
        (true, _) => unchunk(body)?,
        // A body that broke off is no answer; HEAD's has none.
        (false, Some(length)) if !body.is_empty() && body.len() < length => return None,
        _ => body.to_vec(),
    };
    Some(Answer { status, headers, body })
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(end + 2..end + 2 + size)?);
        body = body.get(end + 4 + size..)?;
    }
}
