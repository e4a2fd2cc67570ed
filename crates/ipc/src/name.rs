//! The names of POSIX objects: `/name`.
use std::ffi::CString;

/// Longest name of a queue or shared memory object, without the slash
/// (`NAME_MAX`).
pub(crate) const BYTES_MAX: usize = 255;

/// Checks a name by the rules that the C library and the kernel apply, and
/// says which one is broken.
pub(crate) fn parse(name: &str, bytes_max: usize) -> Result<CString, String> {
    let Some(rest) = name.strip_prefix('/') else {
        return Err("it must begin with /".to_owned());
    };
    if rest.is_empty() || rest == "." || rest == ".." {
        return Err("something must follow the /".to_owned());
    }
    if rest.contains('/') {
        return Err("it may hold no second /".to_owned());
    }
    if rest.len() > bytes_max {
        return Err(format!("at most {bytes_max} bytes may follow the /, not {}", rest.len()));
    }
    CString::new(name).map_err(|_| "it may hold no NUL".to_owned())
}
