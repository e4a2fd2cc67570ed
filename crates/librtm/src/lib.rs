//! librtm: the C ABI over `rtm_client::Mapped`. What each function does is
//! documented where its users read, in `include/rtm.h`; here stands why calling
//! it from C is sound.
//!
//! - **Pointers** come as `Option<&T>` and `Option<&mut MaybeUninit<T>>`: null is
//!   an answer, and what isn't null points to what the header says, for the
//!   time of the call. Only arrays, strings and callbacks are raw.
//! - **A handle** is used by one thread at a time, says the header; so a function
//!   may take `&mut` to what is in it (`handle::Handle::inner`). What other
//!   threads may touch meanwhile stands beside that, and is atomic.
//! - **Panics** end at the ABI: each function runs in `guarded`, which turns one
//!   into `RTM_E_INTERNAL`.
//! - **Callbacks** run while nothing of the handle is borrowed: they may look
//!   things up on it.
//!
//! The functions that C sees are in `exports`, in the order of the header; its
//! structures in `types`; its codes in `failure`.
#![allow(unsafe_code)] // the C ABI: see above, and each block

mod exports;
mod failure;
mod handle;
mod types;
