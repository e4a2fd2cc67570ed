//! One request: from its bytes to what is asked for, without any I/O.
use std::time::SystemTime;

/// A request's head (its first line and its fields) may have so many bytes; the
/// usual limit of servers.
pub(crate) const HEAD_BYTES_MAX: usize = 8192;
/// And so many fields.
const FIELDS_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The first line, for the log.
    pub(crate) line: String,
    /// HEAD: everything but the content.
    pub(crate) head: bool,
    /// The path below the directory, without its leading `/`; bytes, as names are.
    pub(crate) path: Vec<u8>,
    /// 0 or 1: HTTP/1.0 or 1.1.
    pub(crate) minor: u8,
    /// The connection is kept for the next request.
    pub(crate) keep: bool,
    /// `Range: bytes=…`, if it is one range that is well written.
    pub(crate) range: Option<Range>,
    /// The range counts only if the file hasn't changed since.
    pub(crate) if_range: Option<Option<SystemTime>>,
    /// Only if it has changed since.
    pub(crate) if_modified_since: Option<SystemTime>,
}

/// A range of bytes as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// From here to the end, or to this one (included).
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

impl Range {
    /// First byte and length of it in a file of this size; none: outside.
    pub(crate) fn within(self, size: u64) -> Option<(u64, u64)> {
        let (first, last) = match self {
            Self::From(first, last) => (first, last.unwrap_or(u64::MAX).min(size.checked_sub(1)?)),
            Self::Last(0) => return None,
            Self::Last(count) => (size.saturating_sub(count), size.checked_sub(1)?),
        };
        (first <= last).then(|| (first, last - first + 1))
    }
}

/// Why a request isn't answered with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// In words, for the body.
    pub(crate) why: &'static str,
}

fn refusal(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// What the bytes of a connection hold so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not yet the whole head.
    Partial,
    /// A head of so many bytes.
    Whole(usize, Request),
    /// Nothing that can be answered otherwise; the connection is closed then.
    Refused(Refusal),
}

/// Reads a request's head.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut raw = httparse::Request::new(&mut fields);
    let len = match raw.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_BYTES_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(_) => return Parsed::Refused(refusal(431, "the request's head is too long")),
        Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused(refusal(431, "the request has too many fields"));
        }
        Err(httparse::Error::Version) => {
            return Parsed::Refused(refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken"));
        }
        Err(_) => return Parsed::Refused(refusal(400, "this is no HTTP request")),
    };
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Parsed::Refused(refusal(400, "this is no HTTP request"));
    };
    match understand(method, target, minor, raw.headers) {
        Ok(request) => Parsed::Whole(len, request),
        Err(refusal) => Parsed::Refused(refusal),
    }
}

fn understand(
    method: &str,
    target: &str,
    minor: u8,
    fields: &[httparse::Header<'_>],
) -> Result<Request, Refusal> {
    let all = |name: &str| {
        let name = name.to_owned();
        fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(&name)).map(|f| f.value)
    };
    let text = |name: &str| all(name).next().and_then(|value| core::str::from_utf8(value).ok());
    if minor == 1 && all("host").count() != 1 {
        return Err(refusal(400, "an HTTP/1.1 request names one Host"));
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" | "TRACE" | "CONNECT" => {
            return Err(refusal(405, "only GET and HEAD are served"));
        }
        _ => return Err(refusal(501, "an unknown method; only GET and HEAD are served")),
    };
    // Whatever follows as a body would be read as the next request.
    let body = all("content-length").any(|value| value != b"0")
        || all("transfer-encoding").next().is_some();
    let asked =
        all("connection").flat_map(|v| v.split(|b| *b == b',')).map(|word| word.trim_ascii());
    let (mut close, mut keep_alive) = (false, false);
    for word in asked {
        close |= word.eq_ignore_ascii_case(b"close");
        keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
    }
    let keep = !body && !close && (minor == 1 || keep_alive);
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.strip_prefix('/').ok_or(refusal(400, "a path begins with /"))?;
    Ok(Request {
        line: format!("{method} {target} HTTP/1.{minor}"),
        head,
        path: decoded(path).ok_or(refusal(400, "the path is written wrongly"))?,
        minor,
        keep,
        range: text("range").and_then(range),
        if_range: text("if-range").map(date),
        if_modified_since: text("if-modified-since").and_then(date),
    })
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

/// One range of bytes. Several are answered with the whole file, which is
/// allowed; so is what can't be understood.
pub(crate) fn range(text: &str) -> Option<Range> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    match (first, last) {
        ("", last) => number(last).map(Range::Last),
        (first, "") => number(first).map(|first| Range::From(first, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Range::From(first, Some(last)))
        }
    }
}

/// Resolves `%20`; no NUL, which no name has.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16));
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        };
        if byte == 0 {
            return None;
        }
        out.push(byte);
    }
    Some(out)
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

/// The type of a file by its name's ending.
pub(crate) fn content_type(name: &[u8]) -> &'static str {
    let ending = name.rsplit(|b| *b == b'.').next().filter(|e| e.len() < name.len());
    match ending.map(|e| e.to_ascii_lowercase()).as_deref().unwrap_or_default() {
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"txt" | b"md" | b"rs" | b"c" | b"h" | b"toml" | b"log" | b"sh" | b"py" => {
            "text/plain; charset=utf-8"
        }
        b"css" => "text/css; charset=utf-8",
        b"js" | b"mjs" => "text/javascript; charset=utf-8",
        b"json" => "application/json",
        b"xml" => "application/xml",
        b"pdf" => "application/pdf",
        b"wasm" => "application/wasm",
        b"gz" => "application/gzip",
        b"zip" => "application/zip",
        b"tar" => "application/x-tar",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"svg" => "image/svg+xml",
        b"webp" => "image/webp",
        b"ico" => "image/x-icon",
        b"mp3" => "audio/mpeg",
        b"mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Whole(len, request) => {
                assert_eq!(len, text.len());
                request
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn what_is_asked_for() {
        let request = whole("GET /a%20b/c?x=1 HTTP/1.0\r\n\r\n");
        assert_eq!(
            (request.path.as_slice(), request.minor, request.keep),
            (&b"a b/c"[..], 0, false)
        );
        let request = whole("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((request.path.as_slice(), request.head, request.keep), (&b""[..], true, true));
        assert!(!whole("GET / HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n").keep);
        assert!(whole("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep);
        // A body would be taken for the next request.
        assert!(!whole("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").keep);
        assert!(!whole("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").keep);
        assert_eq!(whole("GET http://host/p HTTP/1.1\r\nHost: x\r\n\r\n").path, b"p");
        assert_eq!(whole("GET http://host HTTP/1.1\r\nHost: x\r\n\r\n").path, b"");
        assert_eq!(whole("GET /%2e%2e/x HTTP/1.0\r\n\r\n").path, b"../x");
    }

    #[test]
    fn what_is_refused() {
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        let fields = format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        for (text, status) in [
            ("nonsense\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET x HTTP/1.0\r\n\r\n", 400),
            ("GET * HTTP/1.0\r\n\r\n", 400),
            ("GET /%zz HTTP/1.0\r\n\r\n", 400),
            ("GET /%0 HTTP/1.0\r\n\r\n", 400),
            ("GET /%00 HTTP/1.0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nA b\r\n\r\n", 400),
            ("\x16\x03\x01\x02", 400),
            ("POST / HTTP/1.0\r\n\r\n", 405),
            ("BREW / HTTP/1.0\r\n\r\n", 501),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            (&long, 431),
            (&fields, 431),
        ] {
            match parse(text.as_bytes()) {
                Parsed::Refused(refusal) => assert_eq!(refusal.status, status, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        for text in ["", "GET", "GET / HTTP/1.0\r\n", "GET / HTTP/1.0\r\nA: b\r\n"] {
            assert_eq!(parse(text.as_bytes()), Parsed::Partial, "{text:?}");
        }
    }

    #[test]
    fn ranges_of_bytes() {
        for (text, size, found) in [
            ("bytes=0-3", 10, Some((0, 4))),
            ("bytes=4-", 10, Some((4, 6))),
            ("bytes=-3", 10, Some((7, 3))),
            ("bytes=-30", 10, Some((0, 10))),
            ("bytes=5-99", 10, Some((5, 5))),
            ("bytes=10-", 10, None),
            ("bytes=-0", 10, None),
            ("bytes=0-0", 0, None),
            ("bytes=-5", 0, None),
            ("bytes=18446744073709551615-", 10, None),
        ] {
            assert_eq!(range(text).unwrap().within(size), found, "{text} of {size}");
        }
        let none =
            ["", "bytes=", "bytes=-", "bytes=3-1", "bytes=a-b", "bytes=0-1,4-5", "bytes=+1-2"];
        for text in none.into_iter().chain(["items=0-1", "bytes=99999999999999999999-"]) {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
