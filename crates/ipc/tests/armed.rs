//! Armed pipes over fork and exec: only who armed is signalled, and only while
//! it holds the pipe.
#![allow(unsafe_code)] // fork

mod until;

use std::time::Duration;

use ipc::armed::{ArmedPipe, Caught};
use ipc::signal::Signal;
use rustix::io::Errno;
use until::until;

/// One test, as the counts are the process's.
#[test]
fn only_who_armed_is_signalled() {
    let caught = Caught::install(Signal::USR1).unwrap();
    let (reader, writer) = ipc::pipe::wake_pipe().unwrap();
    let pipe = ArmedPipe::arm(reader, Signal::USR1).unwrap();
    assert_eq!(caught.count(), 0);
    rustix::io::write(&writer, &[1]).unwrap();
    until(|| caught.count() == 1);
    assert!(pipe.drain());

    // A child holds nothing that would keep the pipe alive.
    let (ready_read, ready_write) = ipc::pipe::pipe().unwrap();
    // SAFETY: the child only makes system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let own = caught.count();
        let _ = rustix::io::write(&ready_write, &[1]);
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: ends the child without running what is the parent's.
        unsafe { libc::_exit(i32::from(caught.count() != own)) };
    }
    let mut byte = [0];
    assert_eq!(rustix::io::read(&ready_read, &mut byte), Ok(1));
    rustix::io::write(&writer, &[1]).unwrap();
    until(|| caught.count() == 2);
    drop(pipe);
    // The parent's end is closed; the child's was never open.
    assert_eq!(rustix::io::write(&writer, &[1]), Err(Errno::PIPE));
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the child was not signalled");
    assert_eq!(caught.count(), 2);

    // Many are not too many, one after another.
    for _ in 0..100 {
        let (reader, writer) = ipc::pipe::wake_pipe().unwrap();
        let pipe = ArmedPipe::arm(reader, Signal::USR1).unwrap();
        let before = caught.count();
        rustix::io::write(&writer, &[1]).unwrap();
        until(|| caught.count() > before);
        drop(pipe);
    }
}
