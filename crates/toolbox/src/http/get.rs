//! The client: one GET or HEAD, its content to standard output.
use core::time::Duration;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args;
use ipc::{Errno, unix};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::argument;
use crate::failure::{Failure, WAITED, output};
use crate::sock::{Address, Kind, connect, step};

/// A response's head may have so many bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// And so many fields.
const FIELDS_MAX: usize = 128;
/// The line with a chunk's length may have so many.
const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// How often a server may send us elsewhere.
const REDIRECTS_MAX: usize = 5;

#[derive(Args)]
pub(crate) struct Get {
    /// http://HOST[:PORT]/PATH
    url: String,
    /// Connect to this Unix socket instead of HOST
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Ask for the head only, and show it
    #[arg(short = 'I', long)]
    head: bool,
    /// Show the head before the content
    #[arg(short, long)]
    include: bool,
    /// Ask for these bytes only: 0-99, 100-, -100
    #[arg(long, value_name = "RANGE", value_parser = range)]
    range: Option<String>,
    /// Speak HTTP/1.0
    #[arg(short = '0', long)]
    http1_0: bool,
    /// Give up after so long without a byte; exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration, default_value = "30s")]
    timeout: Duration,
    /// Show the heads of request and response, on standard error
    #[arg(short, long)]
    verbose: bool,
}

fn range(text: &str) -> Result<String, String> {
    match super::request::range(&format!("bytes={text}")) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a range is like 0-99, 100- or -100".to_owned()),
    }
}

/// What of a URL matters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    /// As the Host field names it.
    host: String,
    path: String,
}

fn url(text: &str) -> Result<Url, Failure> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Failure::usage(format!(
            "{}: a URL has no blanks; write %20",
            text.escape_debug()
        )));
    }
    let rest = text.strip_prefix("http://").ok_or_else(|| {
        Failure::usage(format!("{text}: it takes http://HOST[:PORT]/PATH; https is not spoken"))
    })?;
    let rest = rest.split('#').next().unwrap_or_default();
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    if host.is_empty() || host.contains('@') {
        return Err(Failure::usage(format!("{text}: it takes a host, without user or password")));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Url { host: host.to_owned(), path })
}

/// A head that has come.
struct Head {
    status: u16,
    /// As it was sent.
    text: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    location: Option<String>,
}

struct Fetch<'a> {
    options: &'a Get,
    socket: OwnedFd,
    url: String,
    /// Received, and not used yet.
    input: Vec<u8>,
}

pub(crate) fn run(get: &Get) -> Result<(), Failure> {
    let mut at = url(&get.url)?;
    for _ in 0..=REDIRECTS_MAX {
        let address = match &get.unix {
            Some(path) => Address::Unix(unix::Address::Path(path.clone())),
            None => {
                let bare = at.host.rsplit_once(']').map_or(at.host.as_str(), |(_, rest)| rest);
                let port = if bare.contains(':') { "" } else { ":80" };
                Address::Tcp(format!("{}{port}", at.host))
            }
        };
        let socket = connect(&address, Kind::Stream, Some(get.timeout))?;
        let whole = format!("http://{}{}", at.host, at.path);
        let mut fetch = Fetch { options: get, socket, url: whole, input: Vec::new() };
        fetch.ask(&at)?;
        let head = fetch.head()?;
        if let (301 | 302 | 303 | 307 | 308, Some(location), false) =
            (head.status, &head.location, get.head)
        {
            at = match location.strip_prefix('/') {
                Some(_) if !location.starts_with("//") => {
                    Url { host: at.host, path: location.clone() }
                }
                _ => url(location)?,
            };
            continue;
        }
        if get.head || get.include {
            output(&head.text)?;
        }
        if head.status >= 300 {
            let reason = super::request::reason(head.status);
            let (url, status) = (&fetch.url, head.status);
            return Err(Failure::refused(format!("{url}: the server answers {status} {reason}")));
        }
        if get.head || head.status == 204 {
            return Ok(());
        }
        return fetch.content(&head);
    }
    let url = &get.url;
    Err(Failure::refused(format!("{url}: it leads on and on; more than {REDIRECTS_MAX} times")))
}

impl Fetch<'_> {
    fn failed(&self, why: impl core::fmt::Display) -> Failure {
        Failure::refused(format!("{}: {why}", self.url))
    }

    fn wait(&self, flags: PollFlags) -> Result<(), Failure> {
        let deadline = ipc::timer::Deadline::after(Some(self.options.timeout));
        loop {
            let mut fds = [PollFd::new(&self.socket, flags)];
            match rustix::event::poll(&mut fds, deadline.remaining().as_ref()) {
                Ok(1..) => return Ok(()),
                Ok(0) if deadline.passed() => {
                    let text = format!("{}: no byte within {:?}", self.url, self.options.timeout);
                    return Err(Failure::Told { code: WAITED, text });
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(ipc::errno_text(errno))),
            }
        }
    }

    fn ask(&mut self, url: &Url) -> Result<(), Failure> {
        let method = if self.options.head { "HEAD" } else { "GET" };
        let minor = u8::from(!self.options.http1_0);
        let mut request = format!(
            "{method} {} HTTP/1.{minor}\r\nHost: {}\r\nUser-Agent: ipc\r\nAccept: */*\r\n\
             Connection: close\r\n",
            url.path, url.host
        );
        if let Some(range) = &self.options.range {
            request.push_str(&format!("Range: bytes={range}\r\n"));
        }
        step(self.options.verbose, &request);
        request.push_str("\r\n");
        let mut rest = request.as_bytes();
        while !rest.is_empty() {
            self.wait(PollFlags::OUT)?;
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                // It may have answered and closed already.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Receives some more; whether there was more.
    fn more(&mut self) -> Result<bool, Failure> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.wait(PollFlags::IN)?;
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    return Ok(count > 0);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(self.failed(ipc::errno_text(errno))),
            }
        }
    }

    fn head(&mut self) -> Result<Head, Failure> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut raw = httparse::Response::new(&mut fields);
            let len = match raw.parse(&self.input) {
                Ok(httparse::Status::Complete(len)) => len,
                Ok(httparse::Status::Partial) => {
                    if self.input.len() > HEAD_BYTES_MAX {
                        let why =
                            format!("the response's head is longer than {HEAD_BYTES_MAX} bytes");
                        return Err(self.failed(why));
                    }
                    if !self.more()? {
                        return Err(self.failed("the connection ended before the response's head"));
                    }
                    continue;
                }
                Err(error) => return Err(self.failed(format!("no HTTP response: {error}"))),
            };
            let status = raw.code.unwrap_or(0);
            let value = |name: &str| {
                raw.headers
                    .iter()
                    .find(|f| f.name.eq_ignore_ascii_case(name))
                    .map(|f| String::from_utf8_lossy(f.value).trim().to_owned())
            };
            let length = match value("content-length").map(|text| text.parse()) {
                None => None,
                Some(Ok(length)) => Some(length),
                Some(Err(_)) => return Err(self.failed("its Content-Length is no number")),
            };
            let chunked =
                value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
            let location = value("location");
            let text: Vec<u8> = self.input.drain(..len).collect();
            step(self.options.verbose, text.escape_ascii().to_string().replace("\\r\\n", "\n"));
            if (100..200).contains(&status) {
                continue; // only a remark, the response follows
            }
            return Ok(Head { status, text, length, chunked, location });
        }
    }

    fn content(&mut self, head: &Head) -> Result<(), Failure> {
        if head.chunked {
            return self.chunks();
        }
        let mut left = head.length.unwrap_or(u64::MAX);
        loop {
            let take = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            output(&self.input[..take])?;
            self.input.clear();
            left -= take as u64;
            if left == 0 {
                return Ok(());
            }
            if !self.more()? {
                return match head.length {
                    None => Ok(()),
                    Some(all) => {
                        let got = all - left;
                        Err(self.failed(format!("cut off after {got} of {all} bytes")))
                    }
                };
            }
        }
    }

    /// Content in pieces, each with its length before it.
    fn chunks(&mut self) -> Result<(), Failure> {
        loop {
            let (skip, len) = match httparse::parse_chunk_size(&self.input) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) if self.input.len() < CHUNK_LINE_BYTES_MAX => {
                    self.more_of_a_chunk()?;
                    continue;
                }
                _ => return Err(self.failed("a chunk without a length")),
            };
            self.input.drain(..skip);
            if len == 0 {
                return Ok(());
            }
            let mut left = len;
            while left > 0 {
                if self.input.is_empty() {
                    self.more_of_a_chunk()?;
                }
                let take = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                output(&self.input[..take])?;
                self.input.drain(..take);
                left -= take as u64;
            }
            while self.input.len() < 2 {
                self.more_of_a_chunk()?;
            }
            if !self.input.starts_with(b"\r\n") {
                return Err(self.failed("a chunk without an end"));
            }
            self.input.drain(..2);
        }
    }

    fn more_of_a_chunk(&mut self) -> Result<(), Failure> {
        if self.more()? { Ok(()) } else { Err(self.failed("cut off within a chunk")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, path) in [
            ("http://h", "h", "/"),
            ("http://h:8/a/b?c#d", "h:8", "/a/b?c"),
            ("http://[::1]:8/", "[::1]:8", "/"),
            ("http://h?x", "h", "/?x"),
        ] {
            assert_eq!(url(text).unwrap(), Url { host: host.into(), path: path.into() }, "{text}");
        }
        for text in [
            "",
            "h",
            "https://h/",
            "http://",
            "http:///x",
            "http://u:p@h/",
            "http://h/a b",
            "http://h/\r\nX: y",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
