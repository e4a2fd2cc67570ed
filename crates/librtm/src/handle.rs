//! What a `struct rtm` is, and the one way into it.

use std::cell::{RefCell, UnsafeCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rtm_client::{Interrupt, Mapped, Reader};

use crate::failure::{ARGUMENT, Failure, INTERNAL, NOT_READY};

/// A handle.
pub(crate) struct Handle {
    /// For the thread that uses the handle.
    inner: UnsafeCell<Inner>,
    /// For any thread.
    pub(crate) interrupt: Interrupt,
    /// A thread is in `rtm_wait`.
    waiting: AtomicBool,
    /// `rtm_close` waits for it to come out.
    closing: AtomicBool,
}

/// What belongs to the thread that uses the handle.
pub(crate) struct Inner {
    pub(crate) mapped: Mapped,
    /// About the last call that failed.
    error: CString,
}

thread_local! {
    /// About this thread's last `rtm_open`, or a call without a handle.
    static ERROR: RefCell<CString> = RefCell::default();
}

/// The line as C has it: what can't stand in a C string is left out.
fn line(text: &str) -> CString {
    let mut bytes = text.as_bytes().to_vec();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// Keeps the line for `rtm_error(NULL)`; gives the code.
pub(crate) fn failed(failure: &Failure) -> c_int {
    ERROR.with_borrow_mut(|error| *error = line(&failure.text));
    failure.code
}

/// The line for `rtm_error(NULL)`: it stays where it is until the next failure
/// in this thread.
pub(crate) fn thread_error() -> *const c_char {
    ERROR.with_borrow(|error| error.as_ptr())
}

impl Handle {
    pub(crate) fn new(mapped: Mapped) -> Result<Handle, Failure> {
        Ok(Handle {
            inner: UnsafeCell::new(Inner { mapped, error: CString::default() }),
            interrupt: Interrupt::new()?,
            waiting: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    #[expect(clippy::mut_from_ref, reason = "of a cell that one thread at a time uses")]
    fn inner(&self) -> &mut Inner {
        // SAFETY: the header allows a handle to one thread at a time, with the
        // exception of what lies beside the cell; no function here calls another
        // one, or a callback, while it holds what this gives. So it is the only
        // reference.
        unsafe { &mut *self.inner.get() }
    }

    /// Runs the body of `rtm_wait`, so that [`Handle::wait_for_waiter`] can wait for its end.
    pub(crate) fn waiting(&self, body: impl FnOnce() -> c_int) -> c_int {
        self.waiting.store(true, Ordering::SeqCst);
        let result = body();
        // Pairs with the load in `wait_for_waiter`: nothing is touched behind it.
        self.waiting.store(false, Ordering::SeqCst);
        result
    }

    /// It is going to be closed: nobody may wait in it any longer.
    pub(crate) fn wait_for_waiter(&self) {
        self.closing.store(true, Ordering::SeqCst);
        while self.waiting.load(Ordering::SeqCst) {
            // Each time: another wait may have used one up.
            self.interrupt.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn close(self) {
        self.inner.into_inner().mapped.close();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// The line for `rtm_error`.
    pub(crate) fn error(&self) -> *const c_char {
        self.inner().error.as_ptr()
    }
}

impl Inner {
    /// The tables, attached anew if need be.
    #[inline]
    pub(crate) fn tables(&mut self) -> Result<&Reader, Failure> {
        self.mapped.tables().ok_or_else(not_ready)
    }
}

#[cold]
fn not_ready() -> Failure {
    Failure::new(NOT_READY, "no daemon has been there yet: there are no tables to look in")
}

/// Runs a function's body: without a panic across the ABI, with the line of
/// what fails kept for `rtm_error`.
#[inline]
pub(crate) fn guarded(
    handle: Option<&Handle>,
    body: impl FnOnce(&mut Inner) -> Result<c_int, Failure>,
) -> c_int {
    let Some(handle) = handle else {
        return failed(&Failure::new(ARGUMENT, "the handle is a null pointer"));
    };
    match catch_unwind(AssertUnwindSafe(|| body(handle.inner()))) {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => keep(handle, &failure),
        // What the body left half done is sound, if not right: the user is told
        // to close the handle.
        Err(panic) => keep(handle, &of_panic(&*panic)),
    }
}

#[cold]
fn keep(handle: &Handle, failure: &Failure) -> c_int {
    handle.inner().error = line(&failure.text);
    failure.code
}

/// A panic as a failure.
#[cold]
pub(crate) fn of_panic(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new(INTERNAL, format!("a bug in librtm: {}", text.unwrap_or("no text")))
}

/// The text of a C string.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives for `'a`.
pub(crate) unsafe fn text_of<'a>(
    text: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, so by the caller's promise a string of that lifetime.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Failure::new(ARGUMENT, format!("{what} is not UTF-8"))),
    }
}
