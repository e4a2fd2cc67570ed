//! `getsockopt` and `setsockopt` for the options that rustix doesn't have.
#![allow(unsafe_code)] // the two calls take pointers; everything else in the crate goes through here
use core::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Errno;

/// Marks the types whose every bit pattern is a value, so that the kernel may
/// fill them.
///
/// # Safety
/// The type has no padding and no invalid bit pattern.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: an integer has neither padding nor invalid values.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: three integers of four bytes each, no padding between them.
unsafe impl Plain for libc::ucred {}

/// The errno that the last libc call of this thread left.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Turns libc's -1 into the errno.
pub(crate) fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

/// Reads one option of fixed size.
pub(crate) fn get<T: Plain>(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<T, Errno> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the
    // call; the kernel writes at most `len` bytes into it.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut len)
    })?;
    // SAFETY: zeroed before, overwritten in part or whole by the kernel, and
    // `Plain` says that any bytes are a value.
    Ok(unsafe { value.assume_init() })
}

/// Reads an option that is a list; asks again with what the kernel says it
/// needs.
pub(crate) fn get_list(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<Vec<u32>, Errno> {
    let mut list: Vec<u32> = vec![0; 64];
    loop {
        let mut len = (list.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: pointer and length describe the vector's initialised part.
        let result = check(unsafe {
            libc::getsockopt(fd.as_raw_fd(), level, name, list.as_mut_ptr().cast(), &mut len)
        });
        let words = len as usize / size_of::<u32>();
        match result {
            Ok(_) => {
                list.truncate(words);
                return Ok(list);
            }
            // The kernel put the length it needs into `len`.
            Err(Errno::RANGE) if words > list.len() => list.resize(words, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sets an option to a value of fixed size.
pub(crate) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: T,
) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Attaches a classic BPF program to the socket.
pub(crate) fn attach_filter(
    fd: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> Result<(), Errno> {
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points to `program`, with its length; the kernel copies
    // the instructions and writes nothing.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const fprog).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// An `ioctl` that stores one int.
pub(crate) fn ioctl_int(fd: BorrowedFd<'_>, request: libc::c_ulong) -> Result<i32, Errno> {
    let mut value: libc::c_int = 0;
    // SAFETY: callers pass requests that store exactly one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut value) })?;
    Ok(value)
}
