//! Descriptors over the socket: which are given, and that nobody can hold the
//! daemon up or fill it with them.

mod support;

use rtm_tables::wire::{ClientFrame, DescriptorKind};
use support::taker::Taker;
use support::{Client, Patience, Rtmd};

fn open_files(rtmd: &Rtmd) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", rtmd.pid())).unwrap().count()
}

#[test]
fn pipes_are_given_once_and_go_with_their_client() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("status");
    let before = open_files(&rtmd);
    let mut taker = Taker::new(&rtmd, "taker");
    let signal = taker.want(DescriptorKind::SignalPipe).unwrap();
    let wake = taker.want(DescriptorKind::WakePipe).unwrap();
    for pipe in [&signal, &wake] {
        let flags = rustix::io::fcntl_getfd(pipe).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mode = rustix::fs::fcntl_getfl(pipe).unwrap() & rustix::fs::OFlags::ACCMODE;
        assert_eq!(mode, rustix::fs::OFlags::RDONLY);
    }
    let error = taker.want(DescriptorKind::SignalPipe).unwrap_err();
    assert!(error.contains("already"), "{error}");
    let error = taker.want(DescriptorKind::Other(99)).unwrap_err();
    assert!(error.contains("kind"), "{error}");
    // One byte for each turn in which something changed, none for the others.
    admin.must("route add 10.0.0.0/8 dev e");
    assert_eq!(rustix::io::read(&wake, &mut [0; 8]).unwrap(), 1);
    admin.must("status");
    admin.must("route add 11.0.0.0/8 dev e");
    assert_eq!(rustix::io::read(&wake, &mut [0; 8]).unwrap(), 1);
    // The socket, its process and two write ends; no read end stays behind.
    assert_eq!(open_files(&rtmd), before + 4);
    drop(taker);
    let patience = Patience::new();
    while open_files(&rtmd) != before {
        patience.check("the daemon's ends are closed");
    }
    // Nobody writes any more.
    assert_eq!(rustix::io::read(&signal, &mut [0; 1]).unwrap(), 0);
    assert_eq!(rustix::io::read(&wake, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn who_never_reads_them_leaves_nothing_behind() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("status");
    let before = open_files(&rtmd);
    for _ in 0..40 {
        let mut taker = Taker::new(&rtmd, "never reads");
        for kind in [DescriptorKind::WakePipe, DescriptorKind::SignalPipe, DescriptorKind::Image] {
            taker.send(&ClientFrame::Want { kind });
        }
        admin.must("status");
    }
    let patience = Patience::new();
    while open_files(&rtmd) != before {
        patience.check("all is closed");
        admin.must("status");
    }
}

/// A pipe that is full, or closed, or set to block, costs its client the news
/// and nobody anything else.
#[test]
fn a_pipe_that_is_not_read_holds_nobody_up() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut full = Taker::new(&rtmd, "full");
    let mut gone = Taker::new(&rtmd, "gone");
    // One byte a turn that became visible in the image, which somebody has to have.
    drop(full.want(DescriptorKind::Image).unwrap());
    let pipe = full.want(DescriptorKind::WakePipe).unwrap();
    ipc::pipe::set_capacity(&pipe, 4096).unwrap();
    // Of the reader's own description only: the daemon's is another.
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    drop(gone.want(DescriptorKind::WakePipe).unwrap());
    for number in 0..5000 {
        admin.must(&format!("route replace 10.0.0.0/8 dev e metric {number}"));
    }
    assert_eq!(rustix::io::ioctl_fionread(&pipe).unwrap(), 4096);
    assert!(gone.want(DescriptorKind::WakePipe).is_ok(), "the closed one was forgotten");
}
