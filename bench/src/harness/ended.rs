//! A bench that is ended by a signal leaves nothing behind either.
//!
//! Its processes see to themselves (`worker.rs`); what is left is the temporary
//! directory. The signals are blocked and one thread waits for them, so that the
//! directory can be removed by ordinary code.
#![allow(unsafe_code)] // sigprocmask and sigwait, which std does not have.

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::{io, process, ptr, thread};

/// Removes `directory` and exits with the usual code if one of the signals comes
/// that end a program. To be called before other threads are started.
pub(crate) fn remove_if_ended(directory: PathBuf) -> io::Result<()> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; all
    // pointers are to that local, and pthread_sigmask copies it. Programs that
    // are started later get an empty mask from std.
    let signals = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        let mut signals = signals.assume_init();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut signals, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &signals, ptr::null_mut()) {
            0 => signals,
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are to locals that outlive the call.
        if unsafe { libc::sigwait(&signals, &mut signal) } == 0 {
            let _ = std::fs::remove_dir_all(directory);
            process::exit(128 + signal);
        }
    })?;
    Ok(())
}
