//! A forked child that hasn't run yet holds what its parent had: nothing armed.
#![allow(unsafe_code)] // fork, pthread_atfork

mod until;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use ipc::armed::{ArmedPipe, Caught};
use ipc::signal::Signal;
use until::until;

/// What the child waits for before it runs anything else.
static GATE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn wait_at_the_gate() {
    let mut byte = 0_u8;
    let gate: RawFd = GATE.load(Ordering::Relaxed);
    // SAFETY: one byte into a place for one; async-signal-safe.
    unsafe { libc::read(gate, (&raw mut byte).cast(), 1) };
}

#[test]
fn who_has_closed_its_end_is_not_signalled_though_a_child_has_not_run_yet() {
    // Registered before the first is armed: in the child it runs before the library's.
    // SAFETY: the handler only reads.
    unsafe { libc::pthread_atfork(None, None, Some(wait_at_the_gate)) };
    let (gate, open) = ipc::pipe::pipe().unwrap();
    GATE.store(gate.as_raw_fd(), Ordering::Relaxed);
    let caught = Caught::install(Signal::USR1).unwrap();
    let (reader, writer) = ipc::pipe::wake_pipe().unwrap();
    let pipe = ArmedPipe::arm(reader, Signal::USR1).unwrap();
    // SAFETY: the child ends as soon as it runs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child without running what is the parent's.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(caught.count(), 0, "a fork is no signal");
    // The parent is signalled as before.
    rustix::io::write(&writer, &[1]).unwrap();
    until(|| caught.count() == 1);
    assert!(pipe.drain());
    // As an exec would: its end is closed. The child still holds one.
    drop(pipe);
    rustix::io::write(&writer, &[1]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(caught.count(), 1, "nobody is left who asked");
    // The child runs, and lets go of it.
    rustix::io::write(&open, &[1]).unwrap();
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(rustix::io::write(&writer, &[1]), Err(rustix::io::Errno::PIPE));

    // The gate stays open. What was unread before a fork is no news after it.
    drop(open);
    let (reader, writer) = ipc::pipe::wake_pipe().unwrap();
    let pipe = ArmedPipe::arm(reader, Signal::USR1).unwrap();
    rustix::io::write(&writer, &[1]).unwrap();
    until(|| caught.count() == 2);
    for _ in 0..50 {
        // SAFETY: as above.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: as above.
        unsafe { libc::waitpid(child, &mut status, 0) };
    }
    assert_eq!(caught.count(), 2);
    rustix::io::write(&writer, &[1]).unwrap();
    until(|| caught.count() == 3);
    assert!(pipe.drain());
}
