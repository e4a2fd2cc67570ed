//! The ring's algorithm, apart from real memory, so that a model checker can
//! run it over memory of its own (see `model.rs`, which also breaks each of the
//! rules below in turn and must be told so).
//!
//! ```text
//!            read                    written
//!             |                         |
//!   ..........[#########################]..............   positions, never wrapping
//!             <-------- filled -------->                  filled <= capacity
//! ```
//!
//! Two positions count bytes for ever; a byte of position p lives at p modulo
//! the capacity. Only the writer stores `written`, only the reader `read`, and
//! each keeps the other's last seen value, so that the line it lives in is only
//! fetched when the ring looks full or empty.
//!
//! Bytes are put in before `written` moves over them ([`Rules::PUBLISH`], which
//! pairs with [`Rules::OBSERVE`]), and copied out before `read` moves over them
//! ([`Rules::RELEASE`], which pairs with [`Rules::RECLAIM`]). One store each: a
//! side that is killed anywhere has moved its position or it hasn't, and goes
//! on from there when it comes back.
//!
//! Sleeping: who finds nothing to do reads its bell, raises its flag, looks
//! again, and sleeps while the bell is unchanged. Who moves a position looks at
//! the other's flag, and if it is up takes it down, rings the bell and wakes.
//! Flag against position is the store-then-load pattern of Dekker: each side
//! needs a full fence between its store and its load, or both could look at the
//! past and one would sleep for ever. A position moves a hundred times as often
//! as anybody sleeps, so in real memory the mover's fence is the light half of
//! [`crate::barrier`] and the sleeper's the heavy one, where the kernel has
//! them; the model has two full fences, which those are to each other. The bell orders a flag that is taken down
//! before the one that is raised next ([`Rules::RING`], [`Rules::HEAR`]).
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

/// The two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who writes: moves `written`, sleeps when the ring is full.
    Writer,
    /// Who reads: moves `read`, sleeps when it is empty.
    Reader,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Writer => Self::Reader,
            Self::Reader => Self::Writer,
        }
    }
}

/// The memory that both sides share.
pub trait Memory {
    /// Why a sleep ended early.
    type Stop: core::fmt::Debug;
    /// A side's position.
    fn position(&self, of: Side, order: Ordering) -> u64;
    /// Moves a side's own position.
    fn set_position(&self, of: Side, to: u64, order: Ordering);
    /// Whether the side wants to be woken.
    fn flag(&self, of: Side) -> bool;
    /// Sets whether the side wants to be woken.
    fn set_flag(&self, of: Side, up: bool);
    /// The side's bell.
    fn bell(&self, of: Side, order: Ordering) -> u32;
    /// Rings the side's bell and wakes it.
    fn ring_bell(&self, of: Side, order: Ordering);
    /// Sleeps while the side's bell is `seen`; may end for no reason.
    ///
    /// # Errors
    /// If the caller's time is up, or a signal came.
    fn sleep(&self, of: Side, seen: u32) -> Result<(), Self::Stop>;
    /// Whether the writer has said that nothing follows.
    fn finished(&self) -> bool;
    /// The fence of who moves a position, which is often. Together with
    /// [`Self::fence_to_sleep`] it orders as two full fences do.
    fn fence_to_rouse(&self);
    /// The fence of who is about to sleep, which is seldom and may take long.
    fn fence_to_sleep(&self);
    /// Copies bytes in at a position.
    fn put(&self, position: u64, bytes: &[u8]);
    /// Copies bytes out at a position.
    fn take(&self, position: u64, bytes: &mut [u8]);
}

/// The orderings, each with a name, so that the model can weaken one.
pub trait Rules {
    /// The writer's store of `written`.
    const PUBLISH: Ordering = Ordering::Release;
    /// The reader's load of `written`.
    const OBSERVE: Ordering = Ordering::Acquire;
    /// The reader's store of `read`.
    const RELEASE: Ordering = Ordering::Release;
    /// The writer's load of `read`.
    const RECLAIM: Ordering = Ordering::Acquire;
    /// The ringing of a bell. Who hears it knows that its flag was taken down
    /// *before*, so that the flag it raises next isn't the one that falls.
    const RING: Ordering = Ordering::Release;
    /// The reading of the own bell.
    const HEAR: Ordering = Ordering::Acquire;
    /// The fence of who moves a position, before it looks at the other's flag.
    const MOVER_FENCE: bool = true;
    /// The fence of who is about to sleep, before it looks again.
    const SLEEPER_FENCE: bool = true;
    /// Whether a sleeper looks again after it has raised its flag.
    const LOOK_AGAIN: bool = true;
}

/// The rules as they are.
#[derive(Debug)]
pub struct Sound;
impl Rules for Sound {}

/// The other side's position is impossible: somebody has damaged the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// Why a wait ended without what was waited for.
#[derive(Debug)]
pub enum Ended<S> {
    /// The memory's reason (time, signal).
    Stopped(S),
    /// See [`Damaged`].
    Damaged,
    /// The writer has finished, and nothing is left.
    Finished,
}

impl<S> From<Damaged> for Ended<S> {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// A side as a type, so that what only one side does costs the other nothing.
pub trait Sided {
    /// Which one.
    const SIDE: Side;
}

/// See [`Side::Writer`].
#[derive(Debug)]
pub struct Writing;
impl Sided for Writing {
    const SIDE: Side = Side::Writer;
}

/// See [`Side::Reader`].
#[derive(Debug)]
pub struct Reading;
impl Sided for Reading {
    const SIDE: Side = Side::Reader;
}

/// One side of the ring, over some memory, by some rules.
#[derive(Debug)]
pub struct End<M, S, R> {
    /// The shared memory.
    pub memory: M,
    capacity: u64,
    /// Our position.
    own: u64,
    /// The other's position as last seen.
    seen: u64,
    types: PhantomData<(S, R)>,
}

impl<M: Memory, S: Sided, R: Rules> End<M, S, R> {
    /// Takes up a side where it was left, whoever left it.
    pub fn new(memory: M, capacity: u64) -> Result<Self, Damaged> {
        let own = memory.position(S::SIDE, Ordering::Relaxed);
        // Whoever held this side before may have died with its flag up.
        memory.set_flag(S::SIDE, false);
        let mut end = Self { memory, capacity, own, seen: own, types: PhantomData };
        end.look()?;
        Ok(end)
    }

    /// This side's position: bytes moved over since the ring was made.
    #[inline]
    pub fn position(&self) -> u64 {
        self.own
    }

    /// Looks where the other side is.
    #[inline]
    fn look(&mut self) -> Result<(), Damaged> {
        let order = match S::SIDE {
            Side::Writer => R::RECLAIM,
            Side::Reader => R::OBSERVE,
        };
        self.seen = self.memory.position(S::SIDE.other(), order);
        if self.filled() > self.capacity { Err(Damaged) } else { Ok(()) }
    }

    #[inline]
    fn filled(&self) -> u64 {
        match S::SIDE {
            Side::Writer => self.own.wrapping_sub(self.seen),
            Side::Reader => self.seen.wrapping_sub(self.own),
        }
    }

    /// What this side can move over: free bytes for the writer, filled ones for
    /// the reader.
    #[inline]
    fn room(&self) -> u64 {
        match S::SIDE {
            Side::Writer => self.capacity - self.filled(),
            Side::Reader => self.filled(),
        }
    }

    /// At least `wanted` bytes to move over, if there are so many; looks at the
    /// other side only if what was seen last isn't enough.
    #[inline]
    pub fn poll(&mut self, wanted: u64) -> Result<Option<u64>, Damaged> {
        if self.room() < wanted {
            self.look()?;
        }
        Ok(Some(self.room()).filter(|room| *room >= wanted))
    }

    /// As [`Self::poll`], asleep until there are.
    pub fn wait(&mut self, wanted: u64) -> Result<u64, Ended<M::Stop>> {
        loop {
            if let Some(room) = self.poll(wanted)? {
                return Ok(room);
            }
            let bell = self.memory.bell(S::SIDE, R::HEAR);
            self.memory.set_flag(S::SIDE, true);
            if R::SLEEPER_FENCE {
                self.memory.fence_to_sleep();
            }
            if R::LOOK_AGAIN {
                if let Some(room) = self.poll(wanted)? {
                    self.memory.set_flag(S::SIDE, false);
                    return Ok(room);
                }
                if S::SIDE == Side::Reader && self.memory.finished() {
                    self.memory.set_flag(S::SIDE, false);
                    // What it wrote before it finished is visible with that.
                    return self.poll(wanted)?.ok_or(Ended::Finished);
                }
            }
            if let Err(stop) = self.memory.sleep(S::SIDE, bell) {
                self.memory.set_flag(S::SIDE, false);
                // What came in the last moment counts.
                return self.poll(wanted)?.ok_or(Ended::Stopped(stop));
            }
        }
    }

    /// Moves this side's position over `count` bytes, at most what
    /// [`Self::poll`] or [`Self::wait`] said, and wakes the other side.
    #[inline]
    pub fn advance(&mut self, count: u64) {
        debug_assert!(count <= self.room());
        self.own = self.own.wrapping_add(count);
        let order = match S::SIDE {
            Side::Writer => R::PUBLISH,
            Side::Reader => R::RELEASE,
        };
        self.memory.set_position(S::SIDE, self.own, order);
        self.rouse();
    }

    /// Wakes the other side if it sleeps. A sleeping writer is left asleep until
    /// half of the ring is free, so that the two don't wake each other for every
    /// message; no message is longer than that half.
    #[inline]
    pub fn rouse(&self) {
        if S::SIDE == Side::Reader && self.filled() > self.capacity / 2 {
            return;
        }
        if R::MOVER_FENCE {
            self.memory.fence_to_rouse();
        }
        let other = S::SIDE.other();
        if self.memory.flag(other) {
            self.memory.set_flag(other, false);
            self.memory.ring_bell(other, R::RING);
        }
    }
}
