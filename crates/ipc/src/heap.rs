//! The C library's heap in huge pages: for a process with a few hundred megabytes
//! of small pieces that it reads in no order, which otherwise waits for the page
//! tables as long as for what it reads (twice as long in a virtual machine).
//!
//! ```
//! let mut heap = ipc::heap::Heap::growing_by(32 << 20);
//! // … from time to time, where much was allocated:
//! heap.advise();
//! ```
//!
//! The kernel takes advice (`/sys/kernel/mm/transparent_hugepage/enabled`: `madvise`,
//! which is most distributions' setting, or `always`), it needs none to be given it,
//! and nothing but speed depends on it.
#![allow(unsafe_code)] // mallopt, sbrk and madvise, of which only the advice is used

/// What remembers how far the heap was advised.
#[derive(Debug)]
pub struct Heap {
    advised: usize,
}

impl Heap {
    /// From here on the heap grows by so many bytes at once. What isn't written to
    /// takes no memory; but a large step can be advised as a whole, before pages of
    /// the usual size are in it.
    #[doc(alias = "mallopt")]
    #[must_use]
    pub fn growing_by(bytes: i32) -> Heap {
        #[cfg(target_env = "gnu")]
        // SAFETY: it sets a parameter of malloc, under its own lock.
        unsafe {
            libc::mallopt(libc::M_TOP_PAD, bytes)
        };
        let _ = bytes;
        Heap { advised: end() & !(PAGE - 1) }
    }

    /// Asks for huge pages in what the heap has grown by since the last call. Costs
    /// nothing where it hasn't. True: it had.
    ///
    /// Source: [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html).
    #[doc(alias = "MADV_HUGEPAGE")]
    pub fn advise(&mut self) -> bool {
        let end = end() & !(PAGE - 1);
        let from = std::mem::replace(&mut self.advised, end);
        if end <= from {
            return false;
        }
        // SAFETY: the advice changes by what pages memory is backed, never what is
        // in it; what isn't mapped in between is left out by the kernel.
        unsafe {
            libc::madvise(from as *mut libc::c_void, end - from, libc::MADV_HUGEPAGE);
        }
        true
    }
}

/// Pages of all machines are at least this large; a larger one makes the kernel refuse,
/// which costs only the advice.
const PAGE: usize = 4096;

/// The end of the heap.
fn end() -> usize {
    // SAFETY: asked to grow by nothing it only says where the end is.
    let end = unsafe { libc::sbrk(0) };
    end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_grew_by_is_advised_once() {
        let mut heap = Heap::growing_by(1 << 20);
        heap.advise();
        let before = end();
        // Below the size that malloc maps by itself.
        let pieces: Vec<Vec<u8>> = (0..2000).map(|n| vec![n as u8; 4000]).collect();
        if end() > before {
            assert!(heap.advise());
        }
        assert!(!heap.advise(), "it didn't grow");
        assert!(pieces.iter().enumerate().all(|(n, piece)| piece[3999] == n as u8));
    }
}
